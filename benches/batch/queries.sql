-- The batch set: 40 queries over `cpu`, `events` and `hosts` (generate.py), each as we write it. Where DuckDB's text has to
-- differ, or a plain one would, it follows `-- duckdb`. Rows are compared without their order, so a LIMIT has an order without ties.

-- last_minute: the newest minute of all hosts, all fields
SELECT hostname, max(usage_user), max(usage_system), max(usage_idle), max(usage_iowait), max(processes) FROM cpu
WHERE time >= '2026-01-10 23:59:00' GROUP BY hostname;

-- hourly_by_host: means of an hour and host over all rows, the hundred highest
SELECT date_trunc('hour', time) AS hour, hostname, avg(usage_user) AS u, avg(usage_system), avg(usage_idle), avg(usage_iowait) FROM cpu
GROUP BY 1, 2 ORDER BY u DESC, 2, 1 LIMIT 100;

-- minutes_of_day: minima, maxima and means of a minute over one day
SELECT time_bucket(INTERVAL '1 minute', time) AS minute, min(usage_user), max(usage_user), avg(usage_user) FROM cpu
WHERE time >= '2026-01-05' AND time < '2026-01-06' GROUP BY 1;

-- team_sla: how often a team's hosts are busier than their promise, by a join with the dimension
SELECT team, sla, count(*), sum(CASE WHEN usage_user > sla THEN 1 ELSE 0 END), avg(usage_user) FROM cpu JOIN hosts ON cpu.hostname = hosts.hostname
GROUP BY team, sla;

-- team_days: days of two teams, a join that leaves most series out
SELECT date_trunc('day', cpu.time) AS day, team, os, avg(usage_system), max(processes) FROM cpu JOIN hosts ON cpu.hostname = hosts.hostname
WHERE team IN ('billing', 'edge') AND cores >= 32 GROUP BY 1, 2, 3;

-- events_of_teams: events by team, kind and day, joined with the dimension
SELECT team, kind, date_trunc('day', e.time) AS day, count(*), avg(took) FROM events e JOIN hosts h ON e.hostname = h.hostname GROUP BY 1, 2, 3;

-- day_before: each hour against the same of the day before, a self join of aggregates
WITH hourly AS (SELECT hostname, date_trunc('hour', time) AS hour, avg(usage_user) AS u FROM cpu GROUP BY 1, 2)
SELECT a.hostname, max(a.u - b.u), min(a.u - b.u), count(*) FROM hourly a JOIN hourly b ON a.hostname = b.hostname AND a.hour = b.hour + INTERVAL '1 day'
GROUP BY 1;

-- event_buckets: the load in the ten seconds of each event, an equality join of two large tables
SELECT kind, severity, count(*), avg(usage_user), max(usage_iowait)
FROM events e JOIN cpu ON cpu.hostname = e.hostname AND cpu.time = time_bucket(INTERVAL '10 seconds', e.time) GROUP BY 1, 2;

-- asof_events: the load at each event, the newest row not behind it
SELECT kind, count(usage_user), avg(usage_user), max(processes) FROM events e ASOF JOIN cpu MATCH_CONDITION (e.time >= cpu.time) ON e.hostname = cpu.hostname
GROUP BY kind;
-- duckdb
SELECT kind, count(usage_user), avg(usage_user), max(processes) FROM events e ASOF LEFT JOIN cpu ON e.hostname = cpu.hostname AND e.time >= cpu.time
GROUP BY kind;

-- asof_deploys: hours since the last deploy against the load, of each row of a day
SELECT floor(extract(epoch FROM c.time - d.time) / 3600) AS hours, count(*), avg(usage_user)
FROM (SELECT * FROM cpu WHERE time >= '2026-01-09' AND time < '2026-01-10') c
ASOF JOIN (SELECT * FROM events WHERE kind = 'deploy') d MATCH_CONDITION (c.time >= d.time) ON c.hostname = d.hostname
WHERE d.time IS NOT NULL GROUP BY 1;
-- duckdb
SELECT floor(extract(epoch FROM c.time - d.time) / 3600) AS hours, count(*), avg(usage_user)
FROM (SELECT * FROM cpu WHERE time >= '2026-01-09' AND time < '2026-01-10') c
ASOF LEFT JOIN (SELECT * FROM events WHERE kind = 'deploy') d ON c.hostname = d.hostname AND c.time >= d.time
WHERE d.time IS NOT NULL GROUP BY 1;

-- lag_jumps: steps of more than 3 between rows of a host, by window, over two days
SELECT hostname, count(*), max(abs(step)) FROM (
    SELECT hostname, usage_user - lag(usage_user) OVER (PARTITION BY hostname ORDER BY time) AS step FROM cpu
    WHERE time >= '2026-01-03' AND time < '2026-01-05') s
WHERE abs(step) > 3 GROUP BY hostname;

-- lead_gap: the longest wait for the next event of a kind
SELECT kind, max(wait), avg(wait) FROM (
    SELECT kind, extract(epoch FROM lead(time) OVER (PARTITION BY hostname, kind ORDER BY time) - time) AS wait FROM events) s
GROUP BY kind;

-- moving_average: means of six hours of hourly means, the highest of each host
SELECT hostname, max(smooth), min(smooth) FROM (
    SELECT hostname, hour, avg(u) OVER (PARTITION BY hostname ORDER BY hour ROWS BETWEEN 5 PRECEDING AND CURRENT ROW) AS smooth FROM (
        SELECT hostname, date_trunc('hour', time) AS hour, avg(usage_user) AS u FROM cpu GROUP BY 1, 2) h) m
GROUP BY hostname;

-- moving_rows: the mean of a minute before each row of one day, of one region
SELECT hostname, max(smooth), min(smooth) FROM (
    SELECT hostname, avg(usage_user) OVER (PARTITION BY hostname ORDER BY time ROWS BETWEEN 5 PRECEDING AND CURRENT ROW) AS smooth FROM cpu
    WHERE region = 'us-east-1' AND time >= '2026-01-07' AND time < '2026-01-08') m
GROUP BY hostname;

-- rank_hosts: the three busiest hosts of each region
SELECT * FROM (
    SELECT region, hostname, u, rank() OVER (PARTITION BY region ORDER BY u DESC) AS place FROM (
        SELECT region, hostname, avg(usage_user) AS u FROM cpu GROUP BY region, hostname) a) r
WHERE place <= 3;

-- quartiles: hosts in four parts by their mean of waiting
SELECT part, count(*), min(w), max(w) FROM (
    SELECT ntile(4) OVER (ORDER BY w, hostname) AS part, w FROM (SELECT hostname, avg(usage_iowait) AS w FROM cpu GROUP BY hostname) a) n
GROUP BY part;

-- peaks: the three highest rows of each host in two days
SELECT hostname, time, usage_user FROM (
    SELECT hostname, time, usage_user, row_number() OVER (PARTITION BY hostname ORDER BY usage_user DESC, time) AS place FROM cpu
    WHERE time >= '2026-01-02' AND time < '2026-01-04') p
WHERE place <= 3;

-- top_rows: the hundred rows that wait most, of all
SELECT time, hostname, usage_iowait, usage_user FROM cpu ORDER BY usage_iowait DESC, usage_user DESC, time, hostname LIMIT 100;

-- busy_hosts: how many different hosts were above 95 in each hour
SELECT date_trunc('hour', time) AS hour, count(DISTINCT hostname), count(*) FROM cpu WHERE usage_user > 95 GROUP BY 1;

-- distinct_values: how many different values each rack saw
SELECT rack, count(DISTINCT usage_user), count(DISTINCT processes) FROM cpu GROUP BY rack;

-- distinct_messages: different messages and hosts of a kind
SELECT kind, severity, count(DISTINCT message), count(DISTINCT hostname) FROM events GROUP BY 1, 2;

-- median_hosts: the exact median of each host, over all rows
SELECT hostname, median(usage_user) FROM cpu GROUP BY hostname;

-- percentiles: exact percentiles of a region and day
SELECT region, date_trunc('day', time) AS day, percentile_cont(0.95) WITHIN GROUP (ORDER BY usage_system), percentile_cont(0.5) WITHIN GROUP (ORDER BY usage_system)
FROM cpu GROUP BY 1, 2;

-- took_percentiles: exact percentiles of what events took
SELECT kind, percentile_cont(0.5) WITHIN GROUP (ORDER BY took), percentile_cont(0.9) WITHIN GROUP (ORDER BY took), percentile_cont(0.99) WITHIN GROUP (ORDER BY took)
FROM events GROUP BY kind;

-- fill_minutes: resizes of a region in each minute of a day, also those without one, by a series
SELECT m.value AS minute, count(e.hostname) AS n, sum(e.took)
FROM generate_series(TIMESTAMP '2026-01-04 00:00:00', TIMESTAMP '2026-01-04 23:59:00', INTERVAL '1 minute') AS m
LEFT JOIN (SELECT date_trunc('minute', time) AS minute, hostname, took FROM events WHERE kind = 'resize' AND time >= '2026-01-04' AND time < '2026-01-05') e
ON e.minute = m.value GROUP BY 1;
-- duckdb
SELECT m.value AS minute, count(e.hostname) AS n, sum(e.took)
FROM generate_series(TIMESTAMP '2026-01-04 00:00:00', TIMESTAMP '2026-01-04 23:59:00', INTERVAL '1 minute') AS m(value)
LEFT JOIN (SELECT date_trunc('minute', time) AS minute, hostname, took FROM events WHERE kind = 'resize' AND time >= '2026-01-04' AND time < '2026-01-05') e
ON e.minute = m.value GROUP BY 1;

-- exists_busy: deploys that a row above 99 followed within a minute, EXISTS by key and range
SELECT hostname, count(*) FROM events e WHERE kind = 'deploy' AND time >= '2026-01-08'
AND EXISTS (SELECT 1 FROM cpu WHERE cpu.hostname = e.hostname AND cpu.time >= e.time AND cpu.time < e.time + INTERVAL '1 minute' AND usage_user > 99)
GROUP BY hostname;

-- without_alerts: hosts that had no severe alert in the last half day, NOT EXISTS
SELECT team, count(*) FROM hosts h
WHERE NOT EXISTS (SELECT 1 FROM events e WHERE e.hostname = h.hostname AND kind = 'alert' AND severity = 7 AND time >= '2026-01-10 12:00') GROUP BY team;

-- above_own_mean: rows of one hour above the mean of their own host, a correlated subquery
SELECT hostname, count(*) FROM cpu c WHERE time >= '2026-01-06 12:00' AND time < '2026-01-06 13:00'
AND usage_user > (SELECT avg(usage_user) FROM cpu o WHERE o.hostname = c.hostname AND o.time >= '2026-01-06' AND o.time < '2026-01-07') GROUP BY hostname;

-- sets: hosts with both, and with one and not the other
SELECT 'both' AS what, count(*) FROM (
    SELECT hostname FROM cpu WHERE usage_user > 99.5 AND time >= '2026-01-10' INTERSECT SELECT hostname FROM cpu WHERE usage_iowait > 99.5 AND time >= '2026-01-10') a
UNION ALL SELECT 'one', count(*) FROM (
    SELECT hostname FROM cpu WHERE usage_user > 99.5 AND time >= '2026-01-10' EXCEPT SELECT hostname FROM cpu WHERE usage_iowait > 99.5 AND time >= '2026-01-10') b;

-- rollup: region, rack and all, with subtotals
SELECT region, rack, count(*), avg(usage_user), max(usage_system) FROM cpu GROUP BY ROLLUP (region, rack);

-- cube: events by team, kind and severity, every combination of sums
SELECT team, kind, severity, count(*), max(took) FROM events e JOIN hosts h ON e.hostname = h.hostname GROUP BY CUBE (team, kind, severity);

-- histogram: how many rows lie in each five percent, by region
SELECT region, floor(usage_user / 5) AS part, count(*) FROM cpu GROUP BY 1, 2;

-- first_last: the first and the last value of each host and day
SELECT hostname, date_trunc('day', time) AS day, first(usage_user, time), last(usage_user, time) FROM cpu GROUP BY 1, 2;
-- duckdb
SELECT hostname, date_trunc('day', time) AS day, arg_min(usage_user, time), arg_max(usage_user, time) FROM cpu GROUP BY 1, 2;

-- pivot: kinds as columns, by day, for severe events
SELECT date_trunc('day', time) AS day, sum(CASE WHEN kind = 'deploy' THEN 1 ELSE 0 END), sum(CASE WHEN kind = 'alert' THEN 1 ELSE 0 END),
    sum(CASE WHEN kind = 'login' THEN 1 ELSE 0 END), sum(CASE WHEN kind = 'restart' THEN took ELSE 0 END) FROM events
WHERE severity >= 3 GROUP BY 1 HAVING count(*) > 10;

-- berlin_days: calendar days in a zone
SELECT date_trunc('day', time AT TIME ZONE 'Europe/Berlin') AS day, region, avg(usage_user), count(*) FROM cpu GROUP BY 1, 2;
-- duckdb
SELECT date_trunc('day', time AT TIME ZONE 'UTC' AT TIME ZONE 'Europe/Berlin') AS day, region, avg(usage_user), count(*) FROM cpu GROUP BY 1, 2;

-- hours_of_week: the load by day of the week and hour
SELECT extract(dow FROM time) AS dow, extract(hour FROM time) AS hour, avg(usage_user), max(usage_user) FROM cpu GROUP BY 1, 2;

-- patterns: messages by LIKE and by a regular expression
SELECT kind, sum(CASE WHEN message LIKE '%code=4__ user=u3%' THEN 1 ELSE 0 END), count(*) FROM events
WHERE regexp_like(message, 'code=[0-9]*7 user=u(1|2|3)[0-9]$') GROUP BY kind;
-- duckdb
SELECT kind, sum(CASE WHEN message LIKE '%code=4__ user=u3%' THEN 1 ELSE 0 END), count(*) FROM events
WHERE regexp_matches(message, 'code=[0-9]*7 user=u(1|2|3)[0-9]$') GROUP BY kind;

-- correlations: deviation, correlation and slope of a host's fields, for tags that a pattern chooses
SELECT hostname, stddev(usage_user), corr(usage_user, usage_system), regr_slope(usage_user, usage_system) FROM cpu WHERE hostname LIKE 'host_1%' GROUP BY hostname;

-- names: the hosts of each team and system as one text
SELECT team, os, string_agg(hostname, ',' ORDER BY hostname) FROM hosts
WHERE hostname IN (SELECT hostname FROM events GROUP BY hostname HAVING sum(severity) > 8000) GROUP BY team, os;

-- sessions: runs of events of a host less than two minutes apart, gaps and islands by two windows
SELECT hostname, count(*), max(n) FROM (
    SELECT hostname, session, count(*) AS n FROM (
        SELECT hostname, sum(fresh) OVER (PARTITION BY hostname ORDER BY time) AS session FROM (
            SELECT hostname, time, CASE WHEN time - lag(time) OVER (PARTITION BY hostname ORDER BY time) < INTERVAL '2 minutes' THEN 0 ELSE 1 END AS fresh
            FROM events) a) b
    GROUP BY hostname, session) c
GROUP BY hostname;
