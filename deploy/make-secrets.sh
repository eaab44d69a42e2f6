#!/bin/sh
# Makes, once and as root, the files that compose.yaml mounts as secrets: secrets/, each file for the user who reads it.
set -eu
cd "$(dirname "$0")"
[ "$(id -u)" = 0 ] || { echo "must be run as root: the files belong to the users of several containers" >&2; exit 1; }
[ ! -e secrets ] || { echo "secrets/ is there already; nothing was changed" >&2; exit 1; }
umask 077
mkdir secrets

random() { od -An -v -N "$1" -tx1 /dev/urandom | tr -d ' \n'; }

for database in consilium mlflow; do
  password=$(random 24)
  echo "postgres:5432:$database:$database:$password" > "secrets/$database.pgpass"
  cat >> secrets/databases.sql <<SQL
CREATE ROLE $database LOGIN PASSWORD '$password';
CREATE DATABASE $database OWNER $database;
REVOKE ALL ON DATABASE $database FROM PUBLIC;
SQL
done
random 24 > secrets/postgres-password
random 24 > secrets/grafana-password
echo "$(random 4) $(head -c 32 /dev/urandom | base64)" > secrets/audit-log.keys
: > secrets/metrics-token
: > secrets/gateway-token

chown 1034:1034 secrets/*.pgpass secrets/audit-log.keys secrets/gateway-token
chown 999:999 secrets/databases.sql secrets/postgres-password
chown 472:0 secrets/grafana-password
chown 65534:65534 secrets/metrics-token
