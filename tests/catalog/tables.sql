CREATE TABLE probe (time timestamptz NOT NULL, host varchar, f double precision, n bigint, ok boolean, s varchar, v double precision);
CREATE TABLE gauge (time timestamptz NOT NULL, station varchar, kind varchar, level double precision, quality bigint, salinity double precision, PRIMARY KEY (station, kind, time));
CREATE TABLE gone (time timestamptz NOT NULL, page varchar, ms bigint);
ALTER TABLE gauge RENAME COLUMN level TO height;
ALTER TABLE gauge ALTER COLUMN quality TYPE double precision;
ALTER TABLE gauge DROP COLUMN salinity;
ALTER TABLE gauge ADD COLUMN "Flag" boolean;
DROP TABLE gone;
