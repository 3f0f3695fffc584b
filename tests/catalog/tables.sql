CREATE TABLE probe (time timestamptz NOT NULL, host text, f double precision, n bigint, ok boolean, s text, v double precision);
CREATE TABLE gauge (time timestamptz NOT NULL, station text, kind text, level double precision, quality bigint, salinity double precision, PRIMARY KEY (station, kind, time));
CREATE TABLE gone (time timestamptz NOT NULL, page text, ms bigint);
ALTER TABLE gauge RENAME COLUMN level TO height;
ALTER TABLE gauge ALTER COLUMN quality TYPE double precision;
ALTER TABLE gauge DROP COLUMN salinity;
ALTER TABLE gauge ADD COLUMN "Flag" boolean;
DROP TABLE gone;
