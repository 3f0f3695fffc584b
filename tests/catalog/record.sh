#!/usr/bin/env bash
# Asks PostgreSQL 15 what clients ask (clients.sql) about the tables of tables.sql, and writes its answers into answers.txt:
# names and oids of the tables; then for each statement and table a line `@ number table`, a line for each column with its name and type, `--`, and the rows.
#   PGHOST=… PGPORT=… PGUSER=a superuser tests/catalog/record.sh
# It makes a role and a database of the names that we have, `marigram` and `main`, and drops them again.
set -euo pipefail
cd "$(dirname "$0")"
admin() { psql -X -q -d postgres -v ON_ERROR_STOP=1 "$@"; }
drop() { admin -c 'DROP DATABASE IF EXISTS main' -c 'DROP ROLE IF EXISTS marigram' 2>&1 | grep -v 'does not exist, skipping' || true; }
drop
trap drop EXIT
admin -c 'CREATE ROLE marigram SUPERUSER CREATEDB CREATEROLE LOGIN REPLICATION BYPASSRLS' -c "CREATE DATABASE main OWNER marigram"
ask() { psql -X -q -A -F '|' -U marigram -d main -P null=NULL -P footer=off "$@"; }
ask -v ON_ERROR_STOP=1 -f tables.sql
ask -t -F ' ' -c "SELECT relname, oid::text FROM pg_class WHERE relname ~ '^(probe|gauge)' UNION ALL
    SELECT conname || '!', oid::text FROM pg_constraint WHERE conname ~ '^gauge' ORDER BY 1" >answers.txt
for table in probe gauge; do
    oid=$(ask -t -c "SELECT '$table'::regclass::oid")
    awk -v table=$table -v oid="$oid" '
        /^-- client: / || (!inside && /^(--.*)?$/) { next }
        { text = text $0 "\n"; inside = 1 }
        /;$/ {
            number += 1; inside = 0; all = text; text = ""
            if (table != "probe" && all !~ /\{table\}|\{oid\}/) next
            gsub(/\{table\}/, table, all); gsub(/\{oid\}/, oid, all)
            sub(/;\n$/, "", all)
            printf "\\echo @ %d %s\n%s \\gdesc\n\\echo --\n\\t on\n%s \\g\n\\t off\n", number, table, all, all
        }' clients.sql | ask -f - 2>&1 | sed -e 's/^Column|Type$//' -e '/^$/d'
done >>answers.txt
wc -l answers.txt
