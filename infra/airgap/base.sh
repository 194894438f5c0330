#!/usr/bin/env bash
# The base of all images where no image registry can be reached: Debian 12 by debootstrap, brought in by `docker import`,
# with this machine's certificates and the settings by which its package managers reach their registries. Those settings
# stay in the image: it is for this machine, not for a registry.  Done anew when one of them has changed.
set -euo pipefail
cd "$(dirname "$0")"

image=penstock-airgap/base:bookworm
. ./mirror.sh

mirror=${PENSTOCK_DEBIAN_MIRROR:-$(source_of Debian)}
security=${PENSTOCK_DEBIAN_SECURITY_MIRROR:-$(source_of Debian-Security)}
[ -n "$mirror" ] && [ -n "$security" ] || {
  echo "base: apt knows no mirror of Debian: run apt-get update, or set PENSTOCK_DEBIAN_MIRROR and PENSTOCK_DEBIAN_SECURITY_MIRROR" >&2
  exit 1
}
bundle=/etc/ssl/certs/ca-certificates.crt

# this machine's file, and its place in the image
settings=(/etc/pip.conf:/etc/pip.conf
          "$HOME/.config/pip/pip.conf:/root/.config/pip/pip.conf"
          /etc/uv/uv.toml:/etc/uv/uv.toml
          "$HOME/.config/uv/uv.toml:/root/.config/uv/uv.toml"
          "$HOME/.m2/settings.xml:/root/.m2/settings.xml")

apt_network() { apt-config dump 2> /dev/null | grep -Ei '^Acquire::(https?|retries|check)' || true; }

digest=$({ cat base.sh "$bundle"; echo "$mirror $security"; apt_network
           for pair in "${settings[@]}"; do echo "$pair"; cat "${pair%%:*}" 2> /dev/null || true; done; } | sha256sum | cut -c1-16)
if [ "$(docker image inspect --format '{{index .Config.Labels "penstock.settings"}}' "$image" 2> /dev/null)" = "$digest" ]; then
  echo "base: $image is there"
  exit
fi
[ "$(id -u)" = 0 ] || { echo "base: debootstrap needs root: run this once with sudo" >&2; exit 1; }

work=$(mktemp -d /var/tmp/penstock-base.XXXXXX)
trap 'rm -rf "$work"' EXIT
root=$work/root
echo "base: debootstrap of Debian 12 (half a minute)"
debootstrap --variant=minbase --include=ca-certificates,python3 bookworm "$root" "$mirror" > "$work/log" 2>&1 \
  || { tail -n 5 "$work/log" >&2; exit 1; }

printf 'deb %s\n' "$mirror bookworm main" "$mirror bookworm-updates main" "$security bookworm-security main" > "$root/etc/apt/sources.list"
apt_network > "$root/etc/apt/apt.conf.d/80network"
for pair in "${settings[@]}"; do
  [ ! -r "${pair%%:*}" ] || install -D --mode=0644 "${pair%%:*}" "$root${pair##*:}"
done
# The certificates that this machine trusts and a bare Debian doesn't: a company's own, as a rule.
python3 - "$bundle" "$root" <<'PYTHON'
import pathlib, re, sys
def certificates(file):
    found = re.findall(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", pathlib.Path(file).read_text(), re.S)
    return dict.fromkeys(text.replace("\r", "") for text in found)
root = pathlib.Path(sys.argv[2])
known = certificates(root / "etc/ssl/certs/ca-certificates.crt")
own = [text for text in certificates(sys.argv[1]) if text not in known]
for number, text in enumerate(own):
    (root / f"usr/local/share/ca-certificates/host-{number}.crt").write_text(text + "\n")
PYTHON
chroot "$root" update-ca-certificates > /dev/null 2>&1
chroot "$root" apt-get clean
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin "$root"/usr/share/{doc,locale,info}/* "$root"/var/log/*.log
# The directories stay: packages put links into them.
find "$root/usr/share/man" -type f -delete

# Several clients bring certificates of their own unless told otherwise.
tar --directory "$root" --create . | docker import --message "Debian 12 by debootstrap" \
  --change "LABEL penstock.settings=$digest" \
  --change "ENV LANG=C.UTF-8" --change "ENV SSL_CERT_FILE=$bundle" --change "ENV PIP_CERT=$bundle" \
  --change 'CMD ["/bin/bash"]' - "$image" > /dev/null
echo "base: $image, $(docker image inspect --format '{{.Size}}' "$image" | numfmt --to=si)B"
