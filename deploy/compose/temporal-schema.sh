#!/bin/sh
# Makes Temporal's two databases in PostgreSQL, or brings their schema up to the version of the tools that run this. Running it
# again changes nothing.
set -eu
: "${POSTGRES_HOST:?}" "${POSTGRES_USER:?}" "${POSTGRES_PASSWORD_FILE:?}"
SCHEMA_DIR=${SCHEMA_DIR:-/etc/temporal/schema/postgresql/v12}
SQL_PASSWORD=$(cat "$POSTGRES_PASSWORD_FILE")
export SQL_PASSWORD

tool() { # DATABASE COMMAND…
	db=$1
	shift
	temporal-sql-tool --plugin postgres12 --ep "$POSTGRES_HOST" -p "${POSTGRES_PORT:-5432}" -u "$POSTGRES_USER" --db "$db" "$@"
}

# The first is the database's own name, the second that of its schema.
for pair in temporal:temporal temporal_visibility:visibility; do
	db=${pair%%:*}
	tool "$db" create-database
	tool "$db" setup-schema -v 0.0
	tool "$db" update-schema -d "$SCHEMA_DIR/${pair##*:}/versioned"
done
