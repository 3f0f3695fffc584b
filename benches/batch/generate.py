"""The rows of the batch set, as Parquet: the same bytes for the same counts, on any machine.

    generate.py DIRECTORY [--hosts 405] [--days 10]

`cpu` has a row of each host every 10 seconds, in the order of time, with walks between 0 and 100 of two decimals; `events` has
irregular times, of which none repeats; `hosts` has one row a host.
"""

import argparse
import pathlib

import numpy
import pyarrow
from pyarrow import parquet

START = 1_767_225_600  # 2026-01-01
STEP = 10
STEPS_A_DAY = 86_400 // STEP
REGIONS = ["eu-central-1", "eu-west-1", "us-east-1", "us-west-2", "ap-south-1", "ap-northeast-1", "sa-east-1", "me-south-1"]
TEAMS = ["search", "billing", "ads", "storage", "web", "data", "edge"]
KINDS = ["deploy", "restart", "alert", "login", "backup", "resize"]


def names(hosts):
    return [f"host_{index}" for index in range(hosts)]


def walk(random, hosts, steps, size):
    """Walks in hundredths, folded back at 0 and at 100: a column of each host."""
    moves = random.normal(0, size, (hosts, steps)).astype(numpy.float32)
    moves[:, 0] = random.uniform(0, 10_000, hosts)
    numpy.cumsum(moves, axis=1, out=moves)
    numpy.mod(moves, 20_000, out=moves)
    return (10_000 - numpy.abs(moves - 10_000)).astype(numpy.int16)


def dictionary(codes, values):
    return pyarrow.DictionaryArray.from_arrays(pyarrow.array(codes, pyarrow.int32()), values).cast(pyarrow.string())


def nanoseconds(values):
    return pyarrow.array(values, pyarrow.int64()).cast(pyarrow.timestamp("ns"))


def cpu(directory, hosts, days):
    steps = days * STEPS_A_DAY
    fields = ["usage_user", "usage_system", "usage_idle", "usage_iowait"]
    walks = {field: walk(numpy.random.default_rng(index), hosts, steps, 100 + 50 * index) for index, field in enumerate(fields)}
    processes = numpy.random.default_rng(9).poisson(120, (hosts, 1)) + walks["usage_user"] // 200
    writer = None
    host = numpy.arange(hosts)
    for day in range(days):
        rows = slice(day * STEPS_A_DAY, (day + 1) * STEPS_A_DAY)
        seconds = START + STEP * numpy.arange(rows.start, rows.stop)
        columns = {
            "time": nanoseconds(numpy.repeat(seconds * 1_000_000_000, hosts)),
            "hostname": dictionary(numpy.tile(host, STEPS_A_DAY), names(hosts)),
            "region": dictionary(numpy.tile(host % len(REGIONS), STEPS_A_DAY), REGIONS),
            "rack": dictionary(numpy.tile(host % 20, STEPS_A_DAY), [f"rack_{index}" for index in range(20)]),
            **{field: walks[field][:, rows].T.reshape(-1) / 100.0 for field in fields},
            "processes": processes[:, rows].T.reshape(-1).astype(numpy.int64),
        }
        table = pyarrow.table(columns)
        writer = writer or parquet.ParquetWriter(directory / "cpu.parquet", table.schema, compression="zstd")
        writer.write_table(table, row_group_size=250_000)
    writer.close()


def events(directory, hosts, days):
    random = numpy.random.default_rng(100)
    count = 250 * hosts * days
    span = days * 86_400_000
    milliseconds = numpy.sort(random.choice(span, count, replace=False))
    kind = random.choice(len(KINDS), count, p=[0.05, 0.1, 0.4, 0.3, 0.1, 0.05])
    code = random.integers(0, 1000, count)
    numbers = random.integers(0, 40, count)
    table = {
        "time": nanoseconds((START * 1000 + milliseconds) * 1_000_000),
        "hostname": dictionary(random.integers(0, hosts, count), names(hosts)),
        "kind": dictionary(kind, KINDS),
        "severity": random.integers(0, 8, count),
        "took": numpy.round(random.exponential(3.0, count), 3),
        "message": [f"{KINDS[k]} code={c} user=u{n}" for k, c, n in zip(kind, code, numbers)],
    }
    parquet.write_table(pyarrow.table(table), directory / "events.parquet", compression="zstd", row_group_size=250_000)


def dimension(directory, hosts):
    random = numpy.random.default_rng(200)
    table = {
        "time": nanoseconds((START - random.integers(1, 1000, hosts) * 86_400) * 1_000_000_000),
        "hostname": names(hosts),
        "team": [TEAMS[index] for index in random.integers(0, len(TEAMS), hosts)],
        "os": [["debian-12", "debian-13", "ubuntu-24.04", "alpine-3.22"][index] for index in random.integers(0, 4, hosts)],
        "sla": [[90.0, 95.0, 99.0, 99.5][index] for index in random.integers(0, 4, hosts)],
        "cores": 2 ** random.integers(1, 7, hosts),
    }
    parquet.write_table(pyarrow.table(table), directory / "hosts.parquet", compression="zstd")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--hosts", type=int, default=405)
    parser.add_argument("--days", type=int, default=10)
    options = parser.parse_args()
    options.directory.mkdir(parents=True, exist_ok=True)
    dimension(options.directory, options.hosts)
    events(options.directory, options.hosts, options.days)
    cpu(options.directory, options.hosts, options.days)


if __name__ == "__main__":
    main()
