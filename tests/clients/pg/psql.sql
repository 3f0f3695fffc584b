\pset pager off
CREATE TABLE gauge (station TEXT, time TIMESTAMP NOT NULL, level DOUBLE PRECISION, quality BIGINT, PRIMARY KEY (station, time));
COPY gauge (station, time, level, quality) FROM STDIN CSV;
a,2026-01-01 00:00:00+00,1.5,1
b,2026-01-01 00:00:10+00,,2
\.
\d
\d gauge
\dt
-- How these look depends on the version of psql.
\o /dev/null
\dn
\l
\du
\dt+
\di+
\dv
\dT
\df date_trunc
\dS pg_class
\o
\df time_bucket
\set name b
SELECT * FROM gauge WHERE station = :'name';
SELECT station, level FROM gauge ORDER BY station \gdesc
\pset null '-'
\x
SELECT * FROM gauge ORDER BY station;
\x
\copy (SELECT * FROM gauge ORDER BY station) TO STDOUT WITH (FORMAT csv, HEADER)
BEGIN;
SAVEPOINT a;
ROLLBACK TO a;
COMMIT;
SELECT count(*) FROM gauge;
