#!/usr/bin/env bash
# A Docker engine with compose v2, from Debian's packages alone.
#   engine.sh up      install what is missing, start the engine where none runs; again: nothing
#   engine.sh down    stop the engine that `up` has started; one that ran before is left alone
set -euo pipefail
cd "$(dirname "$0")/../.."

state=${PENSTOCK_AIRGAP_STATE:-$PWD/.penstock/airgap}
. infra/airgap/mirror.sh

fail() { echo "engine: $*" >&2; exit 1; }
answers() { docker info > /dev/null 2>&1; }
# Compose below 2.20 can't reset a setting in an override (`!reset`).
composes() { local v; v=$(docker compose version --short 2> /dev/null) && [ "$(printf '%s\n' 2.20 "${v#v}" | sort -V | head -n1)" = 2.20 ]; }

may_install() {
  [ "$(id -u)" = 0 ] || fail "$1 is missing, and only root can install it: run this once with sudo, or install it yourself"
  [ -r /etc/debian_version ] && command -v apt-get > /dev/null \
    || fail "$1 is missing, and this installs from Debian's packages alone: install Docker with compose 2.20 or newer yourself"
}

install_packages() {
  echo "engine: installing $*"
  apt-get update --quiet=2
  DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --yes --no-install-recommends "$@" > /dev/null
}

# Debian 12 has compose 1 only. Trixie's two plug-ins need nothing but libc 2.34: they are fetched with package lists of
# their own, so that this machine's apt never hears of trixie.
install_compose() {
  local options mirror
  apt-get update --quiet=2
  mirror=${PENSTOCK_DEBIAN_MIRROR:-$(source_of Debian)}
  [ -n "$mirror" ] || fail "apt knows no mirror of Debian: set PENSTOCK_DEBIAN_MIRROR"
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  mkdir -p "$work/lists/partial" "$work/archives/partial"
  chmod -R a+rX "$work"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" > "$work/sources.list"
  options=(-o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=/dev/null
           -o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work" -o Acquire::Languages=none -o APT::Sandbox::User=root)
  echo "engine: installing compose v2 of Debian 13"
  apt-get "${options[@]}" update --quiet=2
  (cd "$work" && apt-get "${options[@]}" download --quiet=2 docker-compose docker-buildx)
  DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --yes --no-install-recommends "$work"/*.deb > /dev/null
}

install_what_is_missing() {
  local missing=()
  # A client alone may be here, with no engine; and an engine that answers may be on another machine.
  answers || command -v dockerd > /dev/null || missing+=(docker.io iptables)
  command -v debootstrap > /dev/null || missing+=(debootstrap)
  if [ ${#missing[@]} -gt 0 ]; then may_install "${missing[0]}"; install_packages "${missing[@]}"; fi
  if ! composes; then may_install "docker compose"; install_compose; fi
}

# The engine chooses its storage driver by itself; what it can't know is that a kernel has no nftables, or no iptables.
start() {
  local pid
  [ "$(id -u)" = 0 ] || fail "no Docker engine answers, and only root can start one: start it, then run this again"
  mkdir -p "$state"
  for flags in "" "legacy" "--iptables=false --ip6tables=false"; do
    local path=$PATH
    if [ "$flags" = legacy ]; then
      command -v iptables-legacy > /dev/null || continue
      mkdir -p "$state/bin"
      ln -sf "$(command -v iptables-legacy)" "$state/bin/iptables"
      ln -sf "$(command -v ip6tables-legacy)" "$state/bin/ip6tables"
      path=$state/bin:$PATH flags=
    fi
    # In a session of its own, so that an interrupted test doesn't take it along.
    # shellcheck disable=SC2086
    PATH=$path setsid dockerd $flags > "$state/dockerd.log" 2>&1 < /dev/null &
    pid=$!
    for _ in $(seq 60); do
      if answers; then echo "$pid" > "$state/dockerd.pid"; echo "engine: started, process $pid ${flags}"; return; fi
      kill -0 "$pid" 2> /dev/null || break
      sleep 0.5
    done
    kill "$pid" 2> /dev/null || true
    wait "$pid" 2> /dev/null || true
  done
  fail "dockerd doesn't start; its last words, in $state/dockerd.log: $(tail -n 1 "$state/dockerd.log")"
}

stop() {
  local pid
  [ -r "$state/dockerd.pid" ] || { echo "engine: not started by this script, left as it is"; return; }
  pid=$(cat "$state/dockerd.pid")
  rm "$state/dockerd.pid"
  [ "$(cat "/proc/$pid/comm" 2> /dev/null)" = dockerd ] || { echo "engine: process $pid is gone already"; return; }
  kill "$pid"
  for _ in $(seq 120); do kill -0 "$pid" 2> /dev/null || { echo "engine: stopped"; return; }; sleep 0.5; done
  fail "process $pid doesn't end"
}

case ${1-} in
  up)
    install_what_is_missing
    if answers; then echo "engine: $(docker info --format 'runs, Docker {{.ServerVersion}}, {{.Driver}}')"; else start; fi ;;
  down) stop ;;
  *) echo "usage: $0 up|down" >&2; exit 2 ;;
esac
