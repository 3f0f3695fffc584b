#!/usr/bin/env python3
"""Records tests/sql/to_timestamp.slt: what PostgreSQL 15 reads by patterns of to_timestamp and to_date.

Usage: record_to_timestamp.py HOST:PORT > tests/sql/to_timestamp.slt, with psql at hand. Times that our tables cannot have
are expected to be refused (22008), dates beyond them are left out.
"""
import random
import re
import subprocess
import sys

CASES = [
    ("2024-05-11 10:11:12", "YYYY-MM-DD HH24:MI:SS"), ("2024-05-11T10:11:12.5", 'YYYY-MM-DD"T"HH24:MI:SS.MS'),
    ("20240511101112", "YYYYMMDDHH24MISS"), ("2024/05/11", "YYYY-MM-DD"), ("2024 05 11", "YYYY-MM-DD"), ("2024-5-1", "YYYY-MM-DD"),
    ("  2024-05-11  ", "YYYY-MM-DD"), ("2024  -  05", "YYYY-MM"), ("2024--05", "YYYY-MM"), ("2024-05", "YYYY--MM"), ("2024:05", "YYYYMM"),
    ("05 Dec 2000", "DD Mon YYYY"), ("5 december 2000", "DD Month YYYY"), ("DECEMBER 5, 2000", "FMMonth FMDD, YYYY"), ("12 Foo 2000", "DD Mon YYYY"),
    ("97/Feb/16", "YY/Mon/DD"), ("97/Feb/16", "YYMonDD"), ("69 70 1", "YY"), ("70", "YY"), ("69", "YY"), ("99", "YYY"), ("519", "YYY"), ("520", "YYY"),
    ("9", "Y"), ("1985 January 12", "YYYY FMMonth DD"), ("1985 FMMonth 12", "YYYY \"FMMonth\" DD"), ("1,997 3", "Y,YYY MM"), ("1997 3", "Y,YYY MM"),
    ("2024-12-31 11:59:59 PM", "YYYY-MM-DD HH12:MI:SS PM"), ("2024-12-31 12:00 am", "YYYY-MM-DD HH:MI AM"), ("2024-12-31 12:00 p.m.", "YYYY-MM-DD HH:MI P.M."),
    ("2024-12-31 13:00 PM", "YYYY-MM-DD HH12:MI PM"), ("2024-12-31 00:00 PM", "YYYY-MM-DD HH12:MI PM"), ("2024-12-31 13", "YYYY-MM-DD HH"),
    ("2024-12-31 11 xm", "YYYY-MM-DD HH AM"), ("2024-12-31 24:00", "YYYY-MM-DD HH24:MI"), ("2024-12-31 23:60", "YYYY-MM-DD HH24:MI"),
    ("2024-02-30", "YYYY-MM-DD"), ("2023-02-29", "YYYY-MM-DD"), ("2024-02-29", "YYYY-MM-DD"), ("2024-13-01", "YYYY-MM-DD"), ("2024-00-01", "YYYY-MM-DD"),
    ("2024-01-32", "YYYY-MM-DD"), ("2024 366", "YYYY DDD"), ("2023 366", "YYYY DDD"), ("2024 060", "YYYY DDD"), ("2024060", "YYYYDDD"), ("060", "DDD"),
    ("2020-53-7", "IYYY-IW-ID"), ("2021-01", "IYYY-IW"), ("2021-01-1", "IYYY-IW-ID"), ("2021 200", "IYYY IDDD"), ("2021 01 01", "IYYY MM DD"), ("2021-7", "YYYY-ID"),
    ("2024 10", "YYYY WW"), ("2024 05 3", "YYYY MM W"), ("2459000", "J"), ("2459000 12:30", "J HH24:MI"), ("21", "CC"), ("20 24", "CC YY"), ("20 00", "CC YY"), ("20 1999", "CC YYYY"),
    ("2024 Q2", 'YYYY "Q"Q'), ("2024 2", "YYYY Q"), ("2024 XII 3", "YYYY RM DD"), ("2024 viii 3", "YYYY rm DD"), ("2024 IIII", "YYYY RM"),
    ("Friday 2024-05-11", "Day YYYY-MM-DD"), ("Fri 2024-05-11", "Dy YYYY-MM-DD"), ("Xri 2024", "Dy YYYY"),
    ("2024-05-11 10:00:00 +02", "YYYY-MM-DD HH24:MI:SS TZH"), ("2024-05-11 10:00:00+02:30", "YYYY-MM-DD HH24:MI:SSTZH:TZM"), ("2024-05-11 10:00 -05", "YYYY-MM-DD HH24:MI TZH"),
    ("2024-05-11 10:00-05", "YYYY-MM-DD HH24:MI-TZH"), ("2024-05-11 10:00 - 05", "YYYY-MM-DD HH24:MI TZH"), ("2024-05-11 10:00 05", "YYYY-MM-DD HH24:MI TZH"), ("2024-05-11 10:00 +16", "YYYY-MM-DD HH24:MI TZH"),
    ("2024-05-11 10:00 +1", "YYYY-MM-DD HH24:MI TZH"), ("2024-05-11 UTC", "YYYY-MM-DD TZ"), ("2024-05-11 +00", "YYYY-MM-DD OF"),
    ("2024-05-11 .5", "YYYY-MM-DD .MS"), ("2024-05-11 .25", "YYYY-MM-DD .MS"), ("2024-05-11 .025", "YYYY-MM-DD .MS"), ("2024-05-11 .123456", "YYYY-MM-DD .US"), ("2024-05-11 .12", "YYYY-MM-DD .US"),
    ("2024-05-11 .123", "YYYY-MM-DD .FF3"), ("2024-05-11 .123456", "YYYY-MM-DD .FF6"), ("2024-05-11 .1", "YYYY-MM-DD .FF1"), ("2024-05-11 .123456", "YYYY-MM-DD .FF3"), ("2024-05-11 .1235", "YYYY-MM-DD .FF3"), ("1999-05-11 .1235", "YYYY-MM-DD .FF3"), ("1999-12-31 23:59:59.97", "YYYY-MM-DD HH24:MI:SS.FF1"), ("2024-12-31 23:59:59.97", "YYYY-MM-DD HH24:MI:SS.FF1"), ("2024-05-11 1234", "YYYY-MM-DD MS"),
    ("2024-05-11 12:34:56.789012", "YYYY-MM-DD HH24:MI:SS.US"), ("2024-05-11 10:11:12.5", "YYYY-MM-DD HH24:MI:SS"), ("2024-05-11 86399", "YYYY-MM-DD SSSS"), ("2024-05-11 86400", "YYYY-MM-DD SSSSS"),
    ("2024-05-11 3600 5", "YYYY-MM-DD SSSS HH24"), ("2024 AD", "YYYY AD"), ("2024 a.d.", "YYYY A.D."), ("44 BC", "YYYY BC"), ("2024-05 2025", "YYYY-MM YYYY"), ("2024-05 2024", "YYYY-MM YYYY"),
    ("05 2024 06", "MM YYYY MM"), ("11th May 2024", "DDth Mon YYYY"), ("1st 2024", "DDth YYYY"), ("2024xx05", "YYYYthMM"), ("2024", "YYYY-MM-DD"), ("", "YYYY"), ("2024", ""), ("abc", "YYYY"),
    ("2024-xx-01", "YYYY-MM-DD"), ("12345-05-11", "YYYY-MM-DD"), ("12345678", "YYYY"), ("99999999999", "YYYY"), ("-2024", "YYYY"), ("2024-+5", "YYYY-MM"), ("2024 - 5", "YYYY-MM"),
    ("2024-05-11 trailing", "YYYY-MM-DD"), ("x2024", "YYYY"), ("x2024", "xYYYY"), ("x2024", '"x"YYYY'), ("xy2024", '"x"YYYY'), ("2024x05", "YYYYxMM"), ("2024 x05", 'YYYY"x"MM'), ("2024   05", 'YYYY"xx"MM'),
    ("2024  05", "FXYYYY MM"), ("2024 05", "FXYYYY MM"), ("2024.05", "FXYYYY MM"), ("2024-5-1", "FXYYYY-MM-DD"), ("2024 May 01", "FXYYYY Mon DD"), (" 2024", "FXYYYY"), ("2024-05", "FXYYYYxMM"),
    ("10:11", "HH24:MI"), ("5", "MM"), ("2024\t05\n11", "YYYY MM DD"), ("2024ä05", "YYYYäMM"), ("ä", "YYYY"), ("2024-05-11 ä", 'YYYY-MM-DD "ä"'), ("20240", "YYYYMM"), ("202405", "YYYYMM"), ("2024510", "YYYYMMDD"),
    ("2024510", "YYYYFMMMDD"), ("May2024", "MonYYYY"), ("MAY2024", "MONYYYY"), ("maybe 2024", "Mon YYYY"), ("2000/01/07/1", "YYYY/MM/DD/D"), ("15 \"text between quote marks\" 98 54 45", 'HH24 "\\"text between quote marks\\"" YY MI SS'),
    ("2011-12-18 23:38:15", "YYYY-MM-DD  HH24:MI:SS"), ("2011-12-18  23:38:15", "YYYY-MM-DD HH24:MI:SS"), ("2000+   JUN", "YYYY/MON"), ("  2000 +JUN", "YYYY/MON"), ("  2000 +JUN", "YYYY//MON"),
    ("2000  +JUN", "YYYY//MON"), ("2000 + JUN", "YYYY MON"), ("2000 ++ JUN", "YYYY  MON"), ("2000 + + JUN", "YYYY  MON"), ("2000 + + JUN", "YYYY   MON"), ("2000 -10", "YYYY TZH"), ("2000 -10", "YYYY  TZH"),
    ("2000 10", "YYYY -TZH"), ("2000x10", "YYYYxTZH"), ("15 May 2024 noon", "DD Mon YYYY AM"),
]
FIELDS = "YYYY YYY YY Y MM DD DDD D HH24 HH12 HH MI SS MS US FF2 SSSS AM P.M. AD Mon Month Day Dy RM Q WW W CC J IYYY IW ID IDDD TZH TZM".split()
BETWEEN = ["-", " ", "", "/", ":", ".", "  ", "x", '"q"', "T"]
VALUES = "2024 1999 24 5 05 12 366 060 53 7 11 0 59 60 99 100 am PM a.m. AD BC May december Friday Tue XII iv 2460000 +02 -05 30".split()


def drawn():
    rng = random.Random(15)
    cases = []
    for _ in range(400):
        count = rng.randint(1, 5)
        pattern = "YYYY" if rng.random() < 0.6 else ""
        text = rng.choice(["2024", "1999", "2023"]) if pattern else ""
        for _ in range(count):
            between = rng.choice(BETWEEN)
            pattern += between + rng.choice(["", "", "", "FM", "FX"]) + rng.choice(FIELDS) + rng.choice(["", "", "", "th"])
            text += rng.choice([between.replace('"', ""), rng.choice(["-", " ", "", ":"])]) + rng.choice(VALUES)
        cases.append((text, pattern))
    return cases


def ask(host, port, sql):
    command = ["psql", "-h", host, "-p", port, "-U", "postgres", "-XAtq", "-v", "VERBOSITY=verbose", "-c", "SET timezone = 'UTC'", "-c", sql]
    done = subprocess.run(command, text=True, capture_output=True)
    if done.returncode == 0:
        return done.stdout.strip(), None
    return None, re.search(r"ERROR:\s+([0-9A-Z]{5}):", done.stderr).group(1)


def quoted(text):
    return "'" + text.replace("'", "''") + "'"


def main():
    host, port = sys.argv[1].split(":")
    print("# to_timestamp and to_date of a text and a pattern: what PostgreSQL 15 reads.")
    print("# Recorded by query/tests/record_to_timestamp.py.")
    shown = {"to_timestamp": 'YYYY-MM-DD"T"HH24:MI:SS.US', "to_date": "YYYY-MM-DD"}
    for function, cases in [("to_timestamp", CASES + drawn()), ("to_date", CASES)]:
        for text, pattern in cases:
            if "\n" in text:
                text_sql = "E'" + text.replace("\n", "\\n").replace("\t", "\\t") + "'"
            else:
                text_sql = quoted(text)
            call = f"{function}({text_sql}, {quoted(pattern)})"
            year, state = ask(host, port, f"SELECT extract(year FROM {call})")
            is_ours = state or (year and 1678 <= int(year) <= 2261)
            if not is_ours and function == "to_date":
                continue
            sql = f"SELECT to_char({call}, '{shown[function]}')"
            if state or not is_ours:
                print(f"\nstatement error \\[{state or '22008'}\\]\n{sql}")
            else:
                value, _ = ask(host, port, sql)
                print(f"\nquery T\n{sql}\n----\n{value}")


main()
