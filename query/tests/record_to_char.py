#!/usr/bin/env python3
"""Records tests/sql/to_char.slt: what PostgreSQL 15 writes for patterns of to_char, and its intervals.

Usage: record_to_char.py HOST:PORT > tests/sql/to_char.slt, with psql at hand.
"""
import subprocess
import sys

TIMES = [
    "1677-10-01 00:00:00", "1900-02-28 23:59:59.999999", "1969-12-31 12:00:00", "1999-12-31 00:30:05.000001", "2000-01-01 12:34:56.7",
    "2000-02-29 01:02:03.456789", "2008-12-29 13:00:00", "2010-01-03 11:59:59", "2021-01-01 00:00:00", "2024-05-11 10:11:12.131415",
    "2026-03-21 22:23:24", "2026-07-01 09:08:07.06", "2026-11-12 17:00:00.5", "2026-12-13 03:04:05", "2101-08-22 21:20:19.018",
]
WORDS = (
    "A.D. AD a.d. ad B.C. bc CC cc DAY Day day DDD ddd DD dd DY Dy dy D d FF1 FF2 FF3 FF4 FF5 FF6 ff6 HH24 hh24 HH12 HH hh "
    "IDDD ID id IW iw IYYY IYY IY I i J j MI mi MM mm MONTH Month month MON Mon mon MS ms OF of A.M. p.m. AM pm Q q RM rm "
    "SSSSS SSSS ssss SS ss TZH TZM TZ tz US us WW ww W w Y,YYY y,yyy YYYY yyyy YYY YY Y y"
).split()
PATTERNS = [
    "YYYY-MM-DD", "YYYY-MM-DD HH24:MI:SS", "YYYY-MM-DD\"T\"HH24:MI:SS.MSOF", "YYYY-MM-DD HH24:MI:SS.US TZ", "Mon DD, YYYY",
    "Month DD, YYYY", "FMMonth FMDD, YYYY", "FMDay, FMDDth Month YYYY", "DDTH Mon YY", "Dy, DD Mon YYYY HH12:MI AM", "IYYY-\"W\"IW-ID",
    "YYYY-\"Q\"Q", "\"W\"WW \"of\" YYYY", "HH12:MI:SS P.M.", "hh12:mi:ss pm", "FMHH24hFMMI", "YYYYMMDDHH24MISSMS", "YYYYDDD", "J SSSSS",
    "FMRM RM.", "FMDDD FMWW FMIW FMCC FMMI FMOF", "DDth DDTH Dth Qth SSSSth Jth", "HH24th MIth SSTH MSth USth FF2th", "YYYYth YYth Y,YYYth IYYYth",
    "TMMonth TMDay|", "FXYYYY", "Dd dD DAy dAY MOn mOn", "FMFMDD", "FM", "FM DD", "DDSP", "Monthly daily", "\\\"DD\\\"", "\\DD", "\"a\\\"b\" DD", "\"open DD",
    "100% äöü DD ✓", "%Y-%m-%d", "YYYY\"YYYY\"YYYY", " DD  MM ", "YYYYY YYYYYYY", "IDDD ID IW I", "MMMM DDDD SSSSSS HHHH", "MSS USS", "DAYS MONTHS AMPM", "TZHTZM",
]
LOCAL = ["TZ|TZH|OF|tz|", "YYYY-MM-DD HH24:MI:SS TZ"]
AGES = [
    ("2001-04-10", "1957-06-13"), ("1957-06-13", "2001-04-10"), ("2024-03-01", "2024-02-29"), ("2024-03-01 09:00", "2024-01-31 10:00"),
    ("2024-02-29", "2023-02-28"), ("2023-03-01", "2024-02-29"), ("2026-01-01", "2026-01-01"), ("2026-01-01 00:00:00.5", "2025-12-31 23:59:59.75"),
    ("2025-12-31 23:59:59.75", "2026-01-01 00:00:00.5"), ("2026-03-31", "2026-02-28"), ("2026-02-28", "2026-03-31"), ("2100-03-01", "1999-12-31 12:30"),
    ("2026-05-31 10:00", "2026-04-30 11:00"), ("2026-04-30 11:00", "2026-05-31 10:00"), ("2026-10-31", "2026-09-30 00:00:00.000001"),
]
INTERVALS = [
    "27 hours", "-27 hours", "35 days", "-35 days", "1 mon -1 hour", "-1 mon 1 hour", "1 mon -1 day", "1 day -1 hour", "-1 day 49 hours",
    "2 mons 65 days -73 hours", "30 days -1 hour", "29 days 24 hours", "-30 days 1 hour", "1 year 360 days 8640 hours", "00:00:00.000001",
    "1 mon -30 days 24 hours", "-1 mon 30 days -24 hours", "1 mon -24 hours",
]
MADE = [
    "days => 10", "years => 1, months => 2, weeks => 3, days => 4, hours => 5, mins => 6, secs => 7.8901234", "1", "1, 2, 3", "secs => -90.5",
    "hours => -25, mins => 70", "months => 14", "secs => 0.0000005", "secs => 0.0000015", "", "0, 0, 0, 0, 0, 0, 1e6", "weeks => -1, days => 1",
]


def ask(host, port, sql):
    command = ["psql", "-h", host, "-p", port, "-U", "postgres", "-Atc", "SET timezone = 'UTC'", "-c", sql]
    return subprocess.check_output(command, text=True).split("\n", 1)[1]


def quoted(text):
    return "'" + text.replace("'", "''") + "'"


def in_parts(parts, of):
    return [parts[at:at + of] for at in range(0, len(parts), of)]


def query(types, sql, rows):
    print(f"\nquery {types}\n{sql}\n----\n{rows}", end="")


def main():
    host, port = sys.argv[1].split(":")
    print("# to_char, age, make_interval and justify_…: what PostgreSQL 15 answers. Blanks of a text are shown as _.")
    print("# Recorded by query/tests/record_to_char.py.")
    words = ["|".join(part) for part in in_parts(WORDS, 6)]
    bare = ["|".join("FM" + word for word in part) for part in in_parts(WORDS, 8)]
    ordinal = ["|".join(word + "TH" for word in part) for part in in_parts(WORDS, 8)]
    for pattern in words + bare + ordinal + PATTERNS:
        call = f"string_agg(coalesce(replace('[' || to_char(t, {quoted(pattern)}) || ']', ' ', '_'), 'nothing'), ' ' ORDER BY t)"
        values = ", ".join(f"(TIMESTAMP '{time}')" for time in TIMES)
        instants = values.replace("TIMESTAMP", "TIMESTAMPTZ")
        query("T", f"SELECT {call} FROM (VALUES {values}) AS v(t)", ask(host, port, f"SELECT {call} FROM (VALUES {instants}) AS v(t)"))
    for pattern in LOCAL:
        for time in (f"TIMESTAMP '{TIMES[10]}'", f"TIMESTAMPTZ '{TIMES[10]}+00' AT TIME ZONE 'Europe/Berlin'"):
            sql = f"SELECT replace('[' || to_char({time}, {quoted(pattern)}) || ']', ' ', '_')"
            query("T", sql, ask(host, port, sql))
    calls = [f"age(TIMESTAMP '{one}', TIMESTAMP '{other}')" for one, other in AGES]
    calls += [f"justify_{what}(INTERVAL '{text}')" for text in INTERVALS for what in ("hours", "days", "interval")]
    calls += [f"make_interval({arguments})" for arguments in MADE]
    parts = ("extract(year FROM i) * 12 + extract(month FROM i)", "extract(day FROM i)",
             "extract(hour FROM i) * 3600000000 + extract(minute FROM i) * 60000000 + extract(microseconds FROM i)")
    wanted = []
    for call in calls:
        months, days, micros = ask(host, port, f"SELECT {', '.join(parts)} FROM (SELECT {call}) AS v(i)").strip().split("|")
        wanted.append(f"{call} = INTERVAL '{months} months {days} days {int(float(micros)) / 1e6:.6f} seconds'")
    for part in in_parts(wanted, 3):
        query("B" * len(part), f"SELECT {', '.join(part)}", " ".join(["true"] * len(part)) + "\n")


main()
