#!/bin/bash
# A user and a database for Druid's metadata, and for Airflow's.  Run once, by the image, when the volume is new.
set -euo pipefail
psql --set=ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres \
  --set=druid="$PENSTOCK_POSTGRES_DRUID_PASSWORD" --set=airflow="$PENSTOCK_POSTGRES_AIRFLOW_PASSWORD" <<'SQL'
CREATE USER druid PASSWORD :'druid';
CREATE DATABASE druid OWNER druid ENCODING 'UTF8' TEMPLATE template0;
REVOKE ALL ON DATABASE druid FROM PUBLIC;
CREATE USER airflow PASSWORD :'airflow';
CREATE DATABASE airflow OWNER airflow ENCODING 'UTF8' TEMPLATE template0;
REVOKE ALL ON DATABASE airflow FROM PUBLIC;
SQL
