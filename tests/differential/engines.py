"""The three databases behind one call: `run(text)` gives an Answer or a Failure.

Values come as Python's own: None, bool, int, float, Decimal, str, list; an instant or a local time as Time with its
nanoseconds since 1970, a span as Span of months, days and nanoseconds. So answers of all three compare by value.
"""

import datetime
import http.client
import re
import urllib.parse
from collections import namedtuple
from decimal import Decimal

import duckdb
import pyarrow as pa
import pyarrow.ipc

try:
    from psycopg import pq
except ImportError:  # where there is no PostgreSQL, its client is not needed
    pq = None

Answer = namedtuple("Answer", "names rows")
Failure = namedtuple("Failure", "code message")
Time = namedtuple("Time", "ns")
Span = namedtuple("Span", "months days ns")

UNIT_NS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
EPOCH = datetime.datetime(1970, 1, 1)


def column_values(column):
    """What an Arrow column holds, as Python's values."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.combine_chunks().dictionary_decode() if column.num_chunks else pa.array([], kind.value_type)
        kind = column.type
    if pa.types.is_timestamp(kind):
        unit = UNIT_NS[kind.unit]
        return [None if v is None else Time(v * unit) for v in column.cast(pa.int64()).to_pylist()]
    if pa.types.is_date32(kind):
        return [None if v is None else Time(v * 86400 * 10**9) for v in column.cast(pa.int32()).to_pylist()]
    if pa.types.is_duration(kind):
        unit = UNIT_NS[kind.unit]
        return [None if v is None else Span(0, 0, v * unit) for v in column.cast(pa.int64()).to_pylist()]
    if pa.types.is_interval(kind):
        return [None if v is None else Span(v.months, v.days, v.nanoseconds) for v in column.to_pylist()]
    if pa.types.is_list(kind) and pa.types.is_timestamp(kind.value_type):
        unit, lists = UNIT_NS[kind.value_type.unit], column.cast(pa.list_(pa.int64())).to_pylist()
        return [None if v is None else [None if t is None else Time(t * unit) for t in v] for v in lists]
    return column.to_pylist()


def arrow_answer(table):
    columns = [column_values(column) for column in table.columns]
    return Answer(table.column_names, list(zip(*columns)) if columns else [])


class Marigram:
    """One database of a server, asked over HTTP; answers come as an Arrow stream."""

    def __init__(self, port, database):
        self.database = database
        self.link = http.client.HTTPConnection("127.0.0.1", port, timeout=120)

    def send(self, path, body, kind):
        try:
            self.link.request("POST", path, body, {"Content-Type": kind})
            reply = self.link.getresponse()
            return reply.status, reply.read()
        except (http.client.HTTPException, OSError) as error:
            self.link.close()
            return 0, repr(error).encode()

    def run(self, text):
        form = urllib.parse.urlencode({"db": self.database, "format": "arrow", "q": text})
        status, body = self.send("/api/v3/query_sql", form, "application/x-www-form-urlencoded")
        if status == 0:
            # The first bytes had gone out, and no reason with them: that of a query that answers at its end is asked for.
            again = self.run("EXPLAIN ANALYZE " + text) if not text.startswith("EXPLAIN") else None
            return again if isinstance(again, Failure) else Failure("XXXXX", "the answer broke off: " + body.decode())
        if status != 200:
            found = re.search(rb'"code":"([^"]*)"', body)
            return Failure(found[1].decode() if found else str(status), body.decode(errors="replace"))
        if body.startswith(b"["):
            return Answer([], [])
        return arrow_answer(pa.ipc.open_stream(body).read_all())

    def must(self, text):
        answer = self.run(text)
        assert isinstance(answer, Answer), f"{text[:200]}: {answer}"

    def write(self, lines):
        status, body = self.send(f"/write?db={self.database}", "\n".join(lines).encode(), "text/plain")
        assert status == 204, body


class Duck:
    """DuckDB in this process, told to sort NULL as PostgreSQL does."""

    def __init__(self, statements):
        self.link = duckdb.connect(":memory:", config={"threads": 1})
        self.link.execute("SET TimeZone = 'UTC'; SET default_null_order = 'nulls_last_on_asc_first_on_desc'")
        for statement in statements:
            self.link.execute(statement)

    def run(self, text):
        try:
            return arrow_answer(self.link.sql(text).to_arrow_table())
        except duckdb.Error as error:
            return Failure(type(error).__name__, str(error))


class Postgres:
    """A PostgreSQL server; results are read as its texts, which keep every bit."""

    def __init__(self, conninfo, statements=()):
        self.link = pq.PGconn.connect(conninfo.encode())
        assert self.link.status == pq.ConnStatus.OK, self.link.error_message
        for statement in ("SET TimeZone = 'UTC'", "SET statement_timeout = '20s'", *statements):
            self.must(statement)

    def run(self, text):
        result = self.link.exec_(text.encode())
        if result.status == pq.ExecStatus.COMMAND_OK:
            return Answer([], [])
        if result.status != pq.ExecStatus.TUPLES_OK:
            code = result.error_field(pq.DiagnosticField.SQLSTATE) or b"?"
            return Failure(code.decode(), result.error_message.decode(errors="replace").strip())
        readers = [READERS.get(result.ftype(at), bytes.decode) for at in range(result.nfields)]
        names = [result.fname(at).decode() for at in range(result.nfields)]
        return Answer(names, [tuple(self.cells(result, row, readers)) for row in range(result.ntuples)])

    @staticmethod
    def cells(result, row, readers):
        for at, read in enumerate(readers):
            value = result.get_value(row, at)
            yield None if value is None else read(value)

    def must(self, text):
        answer = self.run(text)
        assert isinstance(answer, Answer), f"{text[:200]}: {answer}"


def read_time(text):
    """`2026-01-01 10:00:00.5+00` as nanoseconds; what Python's dates do not reach stays text."""
    text = text.decode()
    if text.endswith("BC") or text.endswith("infinity"):
        return text
    try:
        at = datetime.datetime.fromisoformat(text.removesuffix("+00"))
    except ValueError:
        return text
    span = at - EPOCH
    return Time(((span.days * 86400 + span.seconds) * 10**6 + span.microseconds) * 1000)


def read_span(text):
    """`1 year 2 mons -3 days 04:05:06.7` as months, days, nanoseconds."""
    months = days = ns = 0
    for number, unit in re.findall(r"(-?\d+) (year|mon|day)s?", text.decode()):
        months += int(number) * {"year": 12, "mon": 1, "day": 0}[unit]
        days += int(number) if unit == "day" else 0
    clock = re.search(r"([+-]?)(\d+):(\d+):(\d+)(?:\.(\d+))?", text.decode())
    if clock:
        sign, hours, minutes, seconds, part = clock.groups()
        ns = ((int(hours) * 60 + int(minutes)) * 60 + int(seconds)) * 10**9 + int((part or "").ljust(9, "0"))
        ns = -ns if sign == "-" else ns
    return Span(months, days, ns)


def read_list(read):
    def parse(text):
        inside = text.decode()[1:-1]
        cells = re.findall(r'"((?:[^"\\]|\\.)*)"|([^,]+)', inside)
        plain = [(re.sub(r"\\(.)", r"\1", quoted) if not bare else bare, bare == "NULL") for quoted, bare in cells]
        return [None if null else read(cell.encode()) for cell, null in plain]
    return parse


READERS = {
    16: lambda text: text == b"t",
    20: int, 21: int, 23: int, 26: int,
    700: float, 701: float,
    1700: lambda text: Decimal(text.decode()),
    1082: read_time, 1114: read_time, 1184: read_time,
    1186: read_span,
}  # fmt: skip
for array, element in ((1000, 16), (1016, 20), (1007, 23), (1022, 701), (1231, 1700), (1115, 1114), (1185, 1184)):
    READERS[array] = read_list(READERS[element])
READERS[1009] = READERS[1015] = read_list(bytes.decode)
