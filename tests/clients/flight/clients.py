"""ADBC, pyarrow.flight and influxdb3-python against one server: every value that is written is read back."""
import datetime
import json
import sys
import time
import urllib.request

import pyarrow as pa
import pyarrow.flight as flight
from adbc_driver_flightsql import DatabaseOptions, dbapi
from influxdb_client_3 import InfluxDBClient3, Point, write_client_options
from influxdb_client_3.write_client.client.write_api import WriteOptions, WriteType

ADDRESS, TOKEN = sys.argv[1], sys.argv[2]
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
DATABASE = "py"
COUNT = 1000
TEXT = 'a "q" \\ b, c=d é'
ROWS = [
    {"time": 1_700_000_000_000_000_000 + i * 1_000_001_001, "host": f"h {i % 7}", "f": i / 8 - 3.5, "n": -i * 10**12, "ok": i % 3 == 0, "s": f"{TEXT}{i}"}
    for i in range(COUNT)
]
TYPES = {"time": pa.timestamp("ns"), "host": pa.string(), "f": pa.float64(), "n": pa.int64(), "ok": pa.bool_(), "s": pa.string()}


def rows_of(table):
    """Values as they came, times as ns."""
    assert {name: table.schema.field(name).type for name in TYPES} == TYPES, table.schema
    times = table["time"].cast(pa.int64()).to_pylist()
    return [{**row, "time": at} for row, at in zip(table.drop(["time"]).to_pylist(), times)]


def fails(code, call):
    try:
        call()
    except Exception as error:
        assert code in str(error), error
        return
    raise AssertionError(f"{code} was expected")


def line(row):
    text = row["s"].replace("\\", "\\\\").replace('"', '\\"')
    host = row["host"].replace(" ", r"\ ")
    return f'm,host={host} f={row["f"]},n={row["n"]}i,ok={str(row["ok"]).lower()},s="{text}" {row["time"]}'


def write():
    body = "\n".join(map(line, ROWS)).encode()
    url = f"http://{ADDRESS}/api/v3/write_lp?db={DATABASE}&precision=nanosecond"
    with urllib.request.urlopen(urllib.request.Request(url, body, HEADERS)) as reply:
        assert reply.status == 204


def pyarrow_flight():
    head = flight.FlightCallOptions(headers=[(b"authorization", f"Bearer {TOKEN}".encode()), (b"database", DATABASE.encode())])
    with flight.connect(f"grpc://{ADDRESS}") as client:
        assert client.authenticate_basic_token("user", TOKEN)[1] == f"Bearer {TOKEN}".encode()
        ticket = lambda **more: flight.Ticket(json.dumps({"database": DATABASE, **more}).encode())
        assert rows_of(client.do_get(ticket(sql_query="SELECT * FROM m ORDER BY time", query_type="sql"), head).read_all()) == ROWS
        named = client.do_get(ticket(sql_query="SELECT n FROM m WHERE host = $host LIMIT 1", params={"host": "h 1"}), head)
        assert named.read_all()["n"].to_pylist() == [-(10**12)]
        fails("42P01", lambda: client.do_get(ticket(sql_query="SELECT * FROM nowhere"), head).read_all())
        fails("ticket", lambda: client.do_get(flight.Ticket(b"\xff\xff"), head).read_all())
        fails("action", lambda: list(client.do_action(flight.Action("NoSuchAction", b""), head)))
        # Who goes before the end stops the statement.
        endless = client.do_get(ticket(sql_query="SELECT i, repeat('x', 1000) FROM generate_series(1, 1000000000) AS s(i)"), head)
        endless.read_chunk()
        endless.cancel()
        assert rows_of(client.do_get(ticket(sql_query="SELECT * FROM m ORDER BY time"), head).read_all()) == ROWS
    print("ok pyarrow.flight")


def adbc():
    options = {DatabaseOptions.RPC_CALL_HEADER_PREFIX.value + "database": DATABASE, DatabaseOptions.AUTHORIZATION_HEADER.value: f"Bearer {TOKEN}"}
    with dbapi.connect(f"grpc://{ADDRESS}", db_kwargs=options, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT * FROM m ORDER BY time")
        assert rows_of(cursor.fetch_arrow_table()) == ROWS
        cursor.execute("SELECT count(*) FROM m WHERE f > $1 AND host = $2", (0.0, "h 2"))
        assert cursor.fetchone() == (sum(row["f"] > 0 and row["host"] == "h 2" for row in ROWS),)
        cursor.execute("CREATE TABLE t (host VARCHAR, time TIMESTAMP NOT NULL, f DOUBLE PRECISION, n BIGINT, ok BOOLEAN, s VARCHAR, PRIMARY KEY (host, time))")
        at = lambda i: datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc) + datetime.timedelta(seconds=i)
        values = [(f"h{i % 5}", at(i), i / 4, i, i % 2 == 0, None if i % 3 else f"{TEXT}{i}") for i in range(50)]
        cursor.executemany("INSERT INTO t (host, time, f, n, ok, s) VALUES ($1, $2, $3, $4, $5, $6)", values)
        assert cursor.rowcount == len(values), cursor.rowcount
        cursor.execute("SELECT host, time, f, n, ok, s FROM t WHERE time < $1 ORDER BY time", (at(40),))
        assert [(host, when.replace(tzinfo=datetime.timezone.utc), *rest) for host, when, *rest in cursor.fetchall()] == values[:40]
        assert connection.adbc_get_info()["vendor_name"] == "Marigram"
        assert connection.adbc_get_table_types() == ["TABLE", "VIEW"]
        assert connection.adbc_get_table_schema("t").field("n").type == pa.int64()
        for depth in ("catalogs", "db_schemas", "tables", "all"):
            objects = connection.adbc_get_objects(depth=depth, catalog_filter=DATABASE).read_all().to_pylist()
            assert [catalog["catalog_name"] for catalog in objects] == [DATABASE], depth
        names = {(table["table_name"], table["table_type"]) for schema in objects[0]["catalog_db_schemas"] if schema["db_schema_name"] == "public" for table in schema["db_schema_tables"]}
        assert names == {("m", "TABLE"), ("t", "TABLE")}, names
        partitions, schema = cursor.adbc_execute_partitions("SELECT n FROM t ORDER BY n")
        assert (len(partitions), schema.names) == (1, ["n"])
        cursor.adbc_read_partition(partitions[0])
        assert [row[0] for row in cursor.fetchall()] == list(range(50))
        fails("42703", lambda: cursor.execute("SELECT nothing FROM m"))
        fails("parameter", lambda: cursor.execute("SELECT $1 + $2", (1,)))
        cursor.execute("SELECT i, repeat('x', 1000) FROM generate_series(1, 1000000000) AS s(i)")
        cursor.fetchone()
        cursor.adbc_cancel()
    with dbapi.connect(f"grpc://{ADDRESS}", db_kwargs={**options, DatabaseOptions.RPC_CALL_HEADER_PREFIX.value + "database": "nowhere"}, autocommit=True) as connection, connection.cursor() as cursor:
        fails("3D000", lambda: cursor.execute("SELECT 1"))
    print("ok adbc_driver_flightsql")


def influxdb3():
    write_options = write_client_options(write_options=WriteOptions(write_type=WriteType.synchronous, use_v2_api=False))
    with InfluxDBClient3(host=f"http://{ADDRESS}", token=TOKEN, database=DATABASE, write_client_options=write_options) as client:
        client.write([Point("p").tag("host", row["host"]).field("f", row["f"]).field("n", row["n"]).field("ok", row["ok"]).field("s", row["s"]).time(row["time"]) for row in ROWS])
        assert rows_of(client.query("SELECT * FROM p ORDER BY time", language="sql", mode="all")) == ROWS
        found = client.query('SELECT * FROM "p"', language="influxql", mode="all")
        assert found.schema.names == ["iox::measurement", "time", "f", "host", "n", "ok", "s"]
        assert rows_of(found.drop(["iox::measurement"])) == ROWS
        one = client.query("SELECT n FROM p WHERE host = $host ORDER BY time", language="sql", mode="all", query_parameters={"host": "h 5"})
        assert one["n"].to_pylist() == [row["n"] for row in ROWS if row["host"] == "h 5"]
        fails("42703", lambda: client.query("SELECT nothing FROM p", mode="all"))
    print("ok influxdb3-python")


def nothing_is_left():
    """What clients left behind is stopped."""
    end = time.time() + 10
    while True:
        with urllib.request.urlopen(urllib.request.Request(f"http://{ADDRESS}/metrics", headers=HEADERS)) as reply:
            metrics = reply.read().decode()
        if "\nmarigram_queries_in_flight 0\n" in metrics:
            return
        assert time.time() < end, "a statement runs on"
        time.sleep(0.05)


write()
pyarrow_flight()
adbc()
influxdb3()
nothing_is_left()
