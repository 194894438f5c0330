#!/bin/bash
# PostgreSQL in the place of the image `postgres`, to its documented contract: a new volume is made by `initdb` with
# POSTGRES_PASSWORD (or POSTGRES_PASSWORD_FILE), POSTGRES_USER, POSTGRES_DB, POSTGRES_INITDB_ARGS; remote users log in by
# POSTGRES_HOST_AUTH_METHOD (scram-sha-256); then /docker-entrypoint-initdb.d/*.sh and *.sql are run, once.
set -euo pipefail

[ "${1-}" = postgres ] || exec "$@"
shift
export POSTGRES_USER=${POSTGRES_USER:-postgres}
export POSTGRES_DB=${POSTGRES_DB:-$POSTGRES_USER}
# Debian's own default listens on localhost only.
server=(postgres -c "listen_addresses=*" "$@")
if [ -s "$PGDATA/PG_VERSION" ]; then exec "${server[@]}"; fi

[ -z "${POSTGRES_PASSWORD_FILE-}" ] || POSTGRES_PASSWORD=$(< "$POSTGRES_PASSWORD_FILE")
method=${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}
if [ -z "${POSTGRES_PASSWORD-}" ] && [ "$method" != trust ]; then
  echo "Error: Database is uninitialized and superuser password is not specified." >&2
  exit 1
fi
# shellcheck disable=SC2086
initdb --username="$POSTGRES_USER" --pwfile=<(printf '%s\n' "${POSTGRES_PASSWORD-}") ${POSTGRES_INITDB_ARGS-}
printf '\nhost all all all %s\n' "$method" >> "$PGDATA/pg_hba.conf"

# The scripts see a server on its socket alone.
export PGUSER=$POSTGRES_USER PGPASSWORD=${POSTGRES_PASSWORD-}
pg_ctl --wait start -o "-c listen_addresses=''"
[ "$POSTGRES_DB" = postgres ] || createdb "$POSTGRES_DB"
for script in /docker-entrypoint-initdb.d/*; do
  case $script in
    *.sh) if [ -x "$script" ]; then "$script"; else . "$script"; fi ;;
    *.sql) psql --set=ON_ERROR_STOP=1 --no-psqlrc --dbname="$POSTGRES_DB" --file="$script" ;;
  esac
done
pg_ctl --wait --mode=fast stop
unset PGUSER PGPASSWORD
exec "${server[@]}"
