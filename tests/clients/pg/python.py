"""Drivers of PostgreSQL's protocol in Python, as their users use them: psycopg 3 and 2, asyncpg, SQLAlchemy, pandas, ADBC.

    python.py HOST PORT     against an empty server; ends with the first answer that is not right
"""

import asyncio
import datetime
import decimal
import io
import sys
import threading
import time

import adbc_driver_postgresql.dbapi
import asyncpg
import pandas
import psycopg
import psycopg2
import psycopg2.extras
import sqlalchemy as sa
from sqlalchemy import orm

HOST, PORT = sys.argv[1], int(sys.argv[2])
DSN = f"host={HOST} port={PORT} user=reader dbname=main"
UTC = datetime.timezone.utc
T0 = datetime.datetime(2026, 1, 1, tzinfo=UTC)
COLUMNS = ("time", "host", "f", "i", "u", "b", "s")
CREATE = (
    "CREATE TABLE {} (time TIMESTAMP NOT NULL, host TEXT, f DOUBLE PRECISION, i BIGINT, u BIGINT UNSIGNED, b BOOLEAN, "
    "s TEXT, PRIMARY KEY (host, time))"
)
ROWS = [
    (
        T0 + datetime.timedelta(seconds=n, microseconds=n),
        f"host {n % 7}",
        n / 8 - 3.5,
        None if n % 5 == 0 else -n * 10**12,
        decimal.Decimal(2**64 - 1 - n),
        n % 3 == 0,
        f'a "q" \\ b, é\t{n}',
    )
    for n in range(500)
]
SELECT = f"SELECT {', '.join(COLUMNS)} FROM {{}} ORDER BY time"
INSERT = f"INSERT INTO {{}} ({', '.join(COLUMNS)}) VALUES ({{}})"


def same(got, wanted):
    got = list(got)
    if got != wanted:
        index = next((n for n, (a, b) in enumerate(zip(got, wanted)) if a != b), min(len(got), len(wanted)))
        sys.exit(f"row {index} of {len(got)}, {len(wanted)} wanted: {got[index:index + 1]} and {wanted[index:index + 1]}")


def refused(state, error_type, call):
    try:
        call()
    except error_type as error:
        got = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
        if got != state:
            sys.exit(f"{got} and not {state}: {error}")
        return
    sys.exit(f"nothing was refused, {state} was wanted")


def psycopg_3():
    with psycopg.connect(DSN, autocommit=True) as c:
        c.execute(CREATE.format("p3"))
        with c.cursor() as cursor:
            cursor.executemany(INSERT.format("p3", ", ".join(["%s"] * 7)), ROWS[:300])
        with c.cursor().copy(f"COPY p3 ({', '.join(COLUMNS)}) FROM STDIN") as copy:
            for row in ROWS[300:400]:
                copy.write_row(row)
        with c.cursor().copy(f"COPY p3 ({', '.join(COLUMNS)}) FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["timestamptz", "text", "float8", "int8", "numeric", "bool", "text"])
            for row in ROWS[400:]:
                copy.write_row(row)
        same(c.execute(SELECT.format("p3")).fetchall(), ROWS)
        same(c.cursor(binary=True).execute(SELECT.format("p3")).fetchall(), ROWS)
        for times in range(8):  # from the sixth on it is prepared
            same(c.execute("SELECT count(*) FROM p3 WHERE host = %s", ("host 3",)).fetchall(), [(71,)])
        hosts = ["host 1", "host 2"]
        same(c.execute("SELECT count(*) FROM p3 WHERE host = ANY(%s)", (hosts,)).fetchall(), [(144,)])
        same(c.execute("SELECT sum(i), avg(f), max(time) FROM p3 WHERE time >= %s", (ROWS[490][0],)).fetchall(),
             [(-sum(n for n in range(490, 500) if n % 5) * 10**12, sum(r[2] for r in ROWS[490:]) / 10, ROWS[-1][0])])
        same(c.execute("SELECT 1, 2.5, 'x', NULL, true, DATE '2026-01-01', INTERVAL '1 day 2 hours', ARRAY[1, 2]").fetchall(),
             [(1, 2.5, "x", None, True, datetime.date(2026, 1, 1), datetime.timedelta(days=1, hours=2), [1, 2])])
        with c.cursor().copy(f"COPY ({SELECT.format('p3')}) TO STDOUT (FORMAT binary)") as copy:
            copy.set_types(["timestamptz", "text", "float8", "int8", "numeric", "bool", "text"])
            same(copy.rows(), ROWS)
        refused("42P01", psycopg.errors.UndefinedTable, lambda: c.execute("SELECT * FROM nothing"))
        refused("22012", psycopg.errors.DivisionByZero, lambda: c.execute("SELECT 1 / %s::bigint", (0,)))
        refused("42601", psycopg.errors.SyntaxError, lambda: c.execute("SELEC 1"))
        timer = threading.Timer(0.3, c.cancel)
        timer.start()
        endless = "SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b"
        refused("57014", psycopg.errors.QueryCanceled, lambda: c.execute(endless))
        timer.join()
        with c.pipeline():
            answers = [c.execute("SELECT %s::bigint", (n,)) for n in range(20)]
        same([answer.fetchone()[0] for answer in answers], list(range(20)))
    with psycopg.connect(DSN) as c, c.cursor("named") as cursor:
        cursor.itersize = 60
        same(cursor.execute(SELECT.format("p3")), ROWS)
    with psycopg.connect(DSN) as c:
        c.read_only, c.isolation_level = True, psycopg.IsolationLevel.REPEATABLE_READ
        count = c.execute("SELECT count(*) FROM p3").fetchone()
        with psycopg.connect(DSN, autocommit=True) as other:
            other.execute("INSERT INTO p3 (time, host, f) VALUES ('2027-01-01', 'late', 1)")
        same([c.execute("SELECT count(*) FROM p3").fetchone()], [count])
        refused("25006", psycopg.errors.ReadOnlySqlTransaction, lambda: c.execute("DELETE FROM p3"))
        c.rollback()
        same([c.execute("SELECT count(*) FROM p3").fetchone()], [(501,)])


def psycopg_2():
    c = psycopg2.connect(DSN)
    c.autocommit = True
    cursor = c.cursor()
    cursor.execute(CREATE.format("p2"))
    psycopg2.extras.execute_values(cursor, f"INSERT INTO p2 ({', '.join(COLUMNS)}) VALUES %s", ROWS[:250])
    text = io.StringIO("".join(f"{r[0].isoformat()}\t{r[1]}\t{r[2]}\t{chr(92) + 'N' if r[3] is None else r[3]}\t{r[4]}\t{r[5]}\t"
                               + r[6].replace("\\", "\\\\").replace("\t", "\\t") + "\n" for r in ROWS[250:]))
    cursor.copy_expert(f"COPY p2 ({', '.join(COLUMNS)}) FROM STDIN", text)
    cursor.execute(SELECT.format("p2"))
    same(cursor.fetchall(), ROWS)
    cursor.execute("SELECT count(*) FROM p2 WHERE host IN %s AND time < %s", (("host 1", "host 2"), ROWS[70][0]))
    same(cursor.fetchall(), [(20,)])
    refused("42703", psycopg2.errors.UndefinedColumn, lambda: cursor.execute("SELECT nothing FROM p2"))
    c.autocommit = False
    with c, c.cursor("named") as named:
        named.execute(SELECT.format("p2"))
        same(named.fetchmany(100), ROWS[:100])
    c.close()


async def asyncpg_():
    c = await asyncpg.connect(host=HOST, port=PORT, user="reader", database="main")
    await c.execute(CREATE.format("ap"))
    await c.executemany(INSERT.format("ap", ", ".join(f"${n + 1}" for n in range(7))), ROWS[:250])
    await c.copy_records_to_table("ap", records=ROWS[250:], columns=COLUMNS)
    same([tuple(row) for row in await c.fetch(SELECT.format("ap"))], ROWS)
    same([await c.fetchval("SELECT count(*) FROM ap WHERE host = ANY($1::text[])", ["host 1", "host 2"])], [144])
    statement = await c.prepare("SELECT time, f FROM ap WHERE host = $1 AND time >= $2 ORDER BY time LIMIT 3")
    same([type_.name for type_ in statement.get_parameters()], ["text", "timestamptz"])
    same([tuple(row) for row in await statement.fetch("host 0", ROWS[7][0])], [ROWS[n][:1] + ROWS[n][2:3] for n in (7, 14, 21)])
    async with c.transaction(readonly=True, isolation="repeatable_read"):
        same([tuple(row) async for row in c.cursor(SELECT.format("ap"), prefetch=50)], ROWS)
    out = io.BytesIO()
    await c.copy_from_query("SELECT host, i FROM ap ORDER BY time LIMIT 2", output=out, format="csv", header=True)
    same([out.getvalue()], [b"host,i\nhost 0,\nhost 1,-1000000000000\n"])
    try:
        await c.fetch("SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b", timeout=0.3)
        sys.exit("asyncpg: no timeout")
    except asyncio.TimeoutError:
        pass
    same([await c.fetchval("SELECT 1")], [1])
    try:
        await c.fetch("SELECT * FROM nothing")
        sys.exit("asyncpg: no error")
    except asyncpg.UndefinedTableError:
        pass
    pool = await asyncpg.create_pool(host=HOST, port=PORT, user="reader", database="main", min_size=2, max_size=4)
    same(await asyncio.gather(*(pool.fetchval("SELECT $1::bigint + 1", n) for n in range(20))), list(range(1, 21)))
    await pool.close()
    await c.close()


def sqlalchemy_(driver):
    engine = sa.create_engine(f"postgresql+{driver}://reader@{HOST}:{PORT}/main")
    name = f"sa_{driver}"
    with engine.connect() as c:
        c.execute(sa.text(CREATE.format(name)))
        c.commit()
    inspector = sa.inspect(engine)
    assert name in inspector.get_table_names() and inspector.has_table(name) and not inspector.has_table("nothing")
    assert "public" in inspector.get_schema_names() and inspector.get_view_names() == []
    same([(column["name"], str(column["type"]), column["nullable"]) for column in inspector.get_columns(name)],
         [("time", "TIMESTAMP", False), ("host", "TEXT", True), ("f", "DOUBLE PRECISION", True), ("i", "BIGINT", True),
          ("u", "NUMERIC", True), ("b", "BOOLEAN", True), ("s", "TEXT", True)])
    same(inspector.get_pk_constraint(name)["constrained_columns"], ["host", "time"])
    assert inspector.get_foreign_keys(name) == [] and inspector.get_unique_constraints(name) == []
    inspector.get_indexes(name), inspector.get_table_comment(name), inspector.get_check_constraints(name)
    table = sa.Table(name, sa.MetaData(), autoload_with=engine)
    with engine.begin() as c:
        c.execute(sa.insert(table), [dict(zip(COLUMNS, row)) for row in ROWS])
    with engine.connect() as c:
        same([tuple(row) for row in c.execute(sa.select(*(table.c[n] for n in COLUMNS)).order_by(table.c.time))], ROWS)
        bucket = sa.func.date_trunc("minute", table.c.time).label("minute")
        query = sa.select(bucket, sa.func.count()).where(table.c.b).group_by(bucket).order_by(bucket)
        same([tuple(row)[1] for row in c.execute(query)], [20] * 8 + [7])

    class Base(orm.DeclarativeBase):
        pass

    class Row(Base):
        __table__ = table

    with orm.Session(engine) as session:
        same([row.s for row in session.scalars(sa.select(Row).where(Row.host == "host 1").order_by(Row.time).limit(2))],
             [ROWS[1][6], ROWS[8][6]])
    frame = pandas.read_sql(SELECT.format(name), engine)
    assert len(frame) == len(ROWS) and frame["f"].sum() == sum(row[2] for row in ROWS) and "UTC" in str(frame["time"].dtype)
    mine = frame[["time", "host", "f"]]
    mine.to_sql(name, engine, if_exists="append", index=False, method="multi", chunksize=100)
    same([len(pandas.read_sql_table(name, engine))], [len(ROWS)])
    engine.dispose()


def adbc():
    with adbc_driver_postgresql.dbapi.connect(f"postgresql://reader@{HOST}:{PORT}/main") as c, c.cursor() as cursor:
        cursor.execute(SELECT.format("p2"))
        table = cursor.fetch_arrow_table()
        same(table.column("f").to_pylist(), [row[2] for row in ROWS])
        same(table.column("time").to_pylist(), [row[0] for row in ROWS])
        cursor.execute("SELECT count(*) FROM p2 WHERE host = $1", ("host 3",))
        same(cursor.fetchall(), [(71,)])
        assert "p2" in str(c.adbc_get_objects(depth="tables").read_all().to_pylist())
        same(c.adbc_get_table_schema("p2").names, list(COLUMNS))


CALLS = {
    "psycopg 3": psycopg_3,
    "psycopg 2": psycopg_2,
    "asyncpg": lambda: asyncio.run(asyncpg_()),
    "SQLAlchemy and pandas over psycopg 3": lambda: sqlalchemy_("psycopg"),
    "SQLAlchemy and pandas over psycopg 2": lambda: sqlalchemy_("psycopg2"),
    "ADBC": adbc,
}
for name, call in CALLS.items():
    began = time.monotonic()
    call()
    print(f"ok {name} {time.monotonic() - began:.1f} s", flush=True)
