#!/usr/bin/env python3
"""Records tests/sql/time_zones.slt: starts of local hours, days, weeks and so on, as PostgreSQL 15 gives them.

Usage: record_zones.py HOST:PORT > tests/sql/time_zones.slt, with psql at hand. Where PostgreSQL's starts are another's, the
tests are in tests/sql/time.slt, which says why.
"""
import subprocess
import sys

ZONES = {
    "Europe/Berlin": [
        "2026-03-28 22:59:59", "2026-03-28 23:00:00", "2026-03-29 00:30:00", "2026-03-29 01:00:00", "2026-03-29 21:59:59",
        "2026-03-29 22:00:00", "2026-10-24 21:59:59", "2026-10-25 00:59:59", "2026-10-25 01:00:00", "2026-10-25 22:59:59",
        "2026-10-25 23:00:00", "2026-12-31 23:00:00",
    ],
    "America/St_Johns": [
        "2026-03-08 03:29:59", "2026-03-08 05:29:59", "2026-03-08 05:30:00", "2026-03-09 02:29:59", "2026-11-01 02:29:59",
        "2026-11-01 04:00:00", "2026-11-01 04:30:00", "2026-11-02 03:29:59", "2026-11-02 03:30:00",
    ],
    "Asia/Kathmandu": [
        "1985-12-31 18:29:59", "1985-12-31 18:30:00", "2026-01-31 18:14:59", "2026-01-31 18:15:00", "2026-04-13 18:15:00",
    ],
    "Australia/Lord_Howe": [
        "2026-04-04 12:59:59", "2026-04-04 13:00:00", "2026-04-04 14:59:59", "2026-04-04 15:00:00", "2026-04-04 15:30:00",
        "2026-10-03 13:29:59", "2026-10-03 15:29:59", "2026-10-03 15:30:00", "2026-10-04 13:00:00",
    ],
}
UNITS = {"hour": "1 hour", "day": "1 day", "week": "1 week", "month": "1 month", "quarter": "3 months", "year": "1 year"}
# Clocks that jump by less than an hour.
NOT_BY_HOURS = ("Asia/Kathmandu", "Australia/Lord_Howe")


def starts(host, port, unit, zone, times):
    values = ", ".join(f"(TIMESTAMPTZ '{time}+00')" for time in times)
    text = f"to_char(date_trunc('{unit}', t, '{zone}') AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS')"
    sql = f"SELECT {text} FROM (VALUES {values}) AS v(t) ORDER BY t"
    return subprocess.check_output(["psql", "-h", host, "-p", port, "-U", "postgres", "-Atc", sql], text=True)


def main():
    host, port = sys.argv[1].split(":")
    print("# Buckets in time zones, across switches to and from summer time: starts are those of PostgreSQL 15's date_trunc.")
    print("# Recorded by query/tests/record_zones.py.")
    for zone, times in ZONES.items():
        for unit, width in UNITS.items():
            if unit == "hour" and zone in NOT_BY_HOURS:
                continue
            values = ", ".join(f"(TIMESTAMP '{time}')" for time in times)
            want = starts(host, port, unit, zone, times)
            for call in (f"date_trunc('{unit}', t, '{zone}')", f"time_bucket('{width}', t, timezone => '{zone}')"):
                print(f"\nquery T\nSELECT {call} FROM (VALUES {values}) AS v(t) ORDER BY t\n----\n{want}", end="")


main()
