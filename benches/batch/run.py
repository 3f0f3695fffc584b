"""The batch set beside DuckDB: the same rows, two threads each, every answer compared.

    run.py MARIGRAM DIRECTORY [--runs 3] [--memory-gib 8] [--only NAME,NAME] [--explain NAME] [--repeat-below 20]

DIRECTORY/parquet has what generate.py wrote, and gets both stores, which later runs find there. A query is asked of both in turn,
so that both see the same machine; what counts is the median. Both times end when the rows are Python's: ours at the client,
over PostgreSQL's protocol, less the median of `SELECT 1`; DuckDB's in this process, without any protocol.
"""

import argparse
import contextlib
import datetime
import decimal
import math
import os
import pathlib
import re
import statistics
import subprocess
import sys
import time

import duckdb
import psycopg

HERE = pathlib.Path(__file__).parent
TABLES = {
    "hosts": "hostname VARCHAR, team VARCHAR, os VARCHAR, sla DOUBLE PRECISION, cores BIGINT, time TIMESTAMP NOT NULL, PRIMARY KEY (hostname, time)",
    "events": "time TIMESTAMP NOT NULL, hostname VARCHAR, kind VARCHAR, severity BIGINT, took DOUBLE PRECISION, message VARCHAR",
    "cpu": "hostname VARCHAR, region VARCHAR, rack VARCHAR, time TIMESTAMP NOT NULL, usage_user DOUBLE PRECISION, usage_system DOUBLE PRECISION, usage_idle DOUBLE PRECISION, usage_iowait DOUBLE PRECISION, processes BIGINT, PRIMARY KEY (hostname, region, rack, time)",
}  # fmt: skip


def queries():
    """(name, our text, DuckDB's) of each query of queries.sql."""
    parts = re.split(r"^-- (\w+): .*\n", (HERE / "queries.sql").read_text(), flags=re.MULTILINE)
    for name, text in zip(parts[1::2], parts[2::2]):
        ours, _, theirs = text.partition("-- duckdb\n")
        yield name, ours.strip().rstrip(";"), (theirs or ours).strip().rstrip(";")


@contextlib.contextmanager
def server(binary, directory, memory_gib):
    """Our server on two CPUs, and a connection to it."""
    command = [binary, "serve", "--data-dir", directory / "marigram", "--http", "127.0.0.1:0", "--pg", "127.0.0.1:0"]
    settings = {
        "memory_limit": f"{memory_gib}GiB",
        "query.memory_bytes_max": f"{memory_gib * 384}MiB",
        "memtable.bytes_max": "512MiB",
        "query.timeout": "30min",
        "copy.directory": directory.resolve() / "parquet",
    }
    command += [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    with open(directory / "marigram.log", "a") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, preexec_fn=two_cpus)
    try:
        ports = {}
        while "pg" not in ports:
            line = process.stdout.readline()
            if not line:
                sys.exit(f"the server did not start, see {directory / 'marigram.log'}")
            if found := re.match(r"(http|pg) listening on .*:(\d+)", line):
                ports[found[1]] = int(found[2])
        with psycopg.connect(host="127.0.0.1", port=ports["pg"], user="bench", dbname="main", autocommit=True) as connection:
            yield connection
    finally:
        process.terminate()
        process.wait(120)


def two_cpus():
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])


def load_marigram(connection, directory):
    for table, columns in TABLES.items():
        if not connection.execute("SELECT count(*) FROM information_schema.tables WHERE table_name = %s", [table]).fetchone()[0]:
            began = time.monotonic()
            connection.execute(f"CREATE TABLE {table} ({columns})")
            connection.execute(f"COPY {table} FROM '{table}.parquet'")
            copied = time.monotonic()
            connection.execute(f"OPTIMIZE TABLE {table} FINAL")
            print(f"loaded {table} into Marigram in {copied - began:.1f} s, merged in {time.monotonic() - copied:.1f} s", flush=True)


def load_duckdb(connection, directory):
    for table in TABLES:
        if not connection.execute("SELECT count(*) FROM information_schema.tables WHERE table_name = ?", [table]).fetchone()[0]:
            began = time.monotonic()
            source = directory / "parquet" / f"{table}.parquet"
            connection.execute(f"CREATE TABLE {table} AS SELECT * REPLACE (time::TIMESTAMP AS time) FROM '{source}'")
            connection.execute("CHECKPOINT")
            print(f"loaded {table} into DuckDB in {time.monotonic() - began:.1f} s", flush=True)


def timed(connection, text):
    """The seconds until all rows are here, and the rows."""
    began = time.perf_counter()
    rows = connection.execute(text).fetchall()
    return time.perf_counter() - began, rows


def plain(value):
    if isinstance(value, decimal.Decimal):
        value = float(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.timezone.utc).replace(tzinfo=None) if value.tzinfo else value
    if isinstance(value, datetime.date):
        return datetime.datetime.combine(value, datetime.time())
    return value


def key(row):
    """An order in which rows that are equal but for the last digits stand at the same place: by what is no fraction first."""
    exact = tuple((value is not None, str(value)) for value in row if not isinstance(value, float))
    return exact, tuple(value for value in row if isinstance(value, float))


def difference(ours, theirs):
    """What is not the same in two answers, or nothing."""
    if len(ours) != len(theirs):
        return f"{len(ours)} rows, DuckDB {len(theirs)}"
    sides = [sorted((tuple(map(plain, row)) for row in rows), key=key) for rows in (ours, theirs)]
    for one, other in zip(*sides):
        for a, b in zip(one, other):
            numbers = all(isinstance(value, (int, float)) for value in (a, b))
            if not (math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12) if numbers else a == b):
                return f"{one}, DuckDB {other}"
    return None


def asked(connection, text):
    """The seconds and the rows of an answer, and what failed."""
    try:
        return *timed(connection, text), None
    except (psycopg.Error, duckdb.Error) as error:
        return None, [], f"{type(error).__name__}: {str(error).splitlines()[0]}"


def compare(sides, texts, runs, repeat_below):
    """The medians of both in seconds, and what was wrong; the first answers warm both up and are compared."""
    first = [asked(side, text) for side, text in zip(sides, texts)]
    medians = [seconds for seconds, _, _ in first]
    if failures := [f"{side} FAILED, {failed}" for side, (_, _, failed) in zip(("Marigram", "DuckDB"), first) if failed]:
        return medians, "; ".join(failures)
    wrong = difference(*(rows for _, rows, _ in first))
    if max(medians) <= repeat_below:
        times = [[], []]
        for turn in range(runs):
            for side in (0, 1) if turn % 2 == 0 else (1, 0):
                times[side].append(timed(sides[side], texts[side])[0])
        medians = [statistics.median(part) for part in times]
    return medians, wrong and f"DIFFERS, {wrong}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("marigram", type=pathlib.Path)
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--repeat-below", type=float, default=20, metavar="SECONDS", help="a query that takes longer is asked once")
    parser.add_argument("--memory-gib", type=int, default=8)
    parser.add_argument("--only", help="names of queries, with commas")
    parser.add_argument("--explain", help="prints EXPLAIN ANALYZE of both for this query, and no more")
    options = parser.parse_args()
    two_cpus()
    chosen = [query for query in queries() if not options.only or query[0] in options.only.split(",")]
    theirs = duckdb.connect(options.directory / "duckdb.db", config={"threads": 2, "memory_limit": f"{options.memory_gib}GiB"})
    theirs.execute("SET TimeZone = 'UTC'")
    load_duckdb(theirs, options.directory)
    failed = False
    with server(options.marigram, options.directory, options.memory_gib) as ours:
        load_marigram(ours, options.directory)
        if options.explain:
            _, text, their_text = next(query for query in queries() if query[0] == options.explain)
            for side, part in ((ours, text), (theirs, their_text)):
                print(*(row[-1] for row in side.execute(f"EXPLAIN ANALYZE {part}").fetchall()), sep="\n")
            return
        floor = statistics.median(timed(ours, "SELECT 1")[0] for _ in range(200))
        print(f"Marigram {ours.execute('SELECT version()').fetchone()[0]}, DuckDB {duckdb.__version__}; 2 threads, {options.memory_gib} GiB each, of which")
        print(f"our statements have {options.memory_gib * 384} MiB and pages, rows and merges the rest, as far as they need it;")
        print(f"median of {options.runs} interleaved runs after one that is not counted (that one itself beyond {options.repeat_below:g} s), ms;")
        print(f"both until the rows are Python's, ours over the wire less {floor * 1000:.2f} ms, that of SELECT 1\n")
        print(f"{'query':20} {'Marigram':>10} {'DuckDB':>10} {'ratio':>7}")
        totals, answered = [0.0, 0.0], 0
        for name, *texts in chosen:
            times, wrong = compare((ours, theirs), texts, options.runs, options.repeat_below)
            failed |= wrong is not None
            if times[0] is not None:
                times[0] = max(times[0] - floor, 0.0)
            shown = [f"{seconds * 1000:10.1f}" if seconds is not None else f"{'-':>10}" for seconds in times]
            ratio = f"{'-':>7}"
            if None not in times:
                totals, answered = [total + part for total, part in zip(totals, times)], answered + 1
                ratio = f"{times[0] / times[1]:7.2f}"
            print(f"{name:20} {shown[0]} {shown[1]} {ratio}{'  ' + wrong if wrong else ''}", flush=True)
        if answered:
            print(f"{'total':20} {totals[0] * 1000:10.1f} {totals[1] * 1000:10.1f} {totals[0] / totals[1]:7.2f}")
        print(f"{answered} of {len(chosen)} queries were answered by both; the total is theirs")
    sys.exit(failed)


if __name__ == "__main__":
    main()
