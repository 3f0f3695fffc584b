"""Drivers in Python against a server that asks for tokens: the user is a token's name, the password its text.

    python access.py HOST PORT ADMIN READER [CA]     with the texts of a token that may do everything and of one that reads

With CA, a file of certificates to trust, all of it over TLS.
"""

import asyncio
import ssl
import sys
import urllib.parse

import adbc_driver_postgresql.dbapi
import asyncpg
import psycopg
import psycopg2
import sqlalchemy as sa

HOST, PORT, ADMIN, READER = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
CA = sys.argv[5] if len(sys.argv) > 5 else None
SSL = ssl.create_default_context(cafile=CA) if CA else False
MODE = {"sslmode": "verify-full", "sslrootcert": CA} if CA else {"sslmode": "disable"}
QUERY = urllib.parse.urlencode(MODE)


def dsn(user, password):
    mode = " ".join(f"{name}={value}" for name, value in MODE.items())
    return f"host={HOST} port={PORT} user={user} dbname=main password={password} {mode}"


def refused(state, error_type, call):
    try:
        call()
    except error_type as error:
        got = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
        assert got == state or state is None or state in str(error), f"{got} instead of {state}: {error}"
        return
    sys.exit(f"{state} was expected")


def psycopg_3():
    with psycopg.connect(dsn("admin", ADMIN), autocommit=True) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS t (time TIMESTAMP NOT NULL, v DOUBLE PRECISION)")
        connection.execute("INSERT INTO t (time, v) VALUES ('2026-01-01', 1.5)")
    binding = " channel_binding=require" if CA else ""
    with psycopg.connect(dsn("reader", READER) + binding, autocommit=True) as connection:
        assert connection.execute("SELECT v FROM t WHERE v > %s", (1,)).fetchall() == [(1.5,)]
        assert connection.execute("SELECT current_user").fetchone() == ("reader",)
        refused("42501", psycopg.Error, lambda: connection.execute("INSERT INTO t (time, v) VALUES ('2026-01-01', 2)"))
    for user, password in [("reader", ADMIN), ("admin", "wrong"), ("nobody", READER)]:
        refused(None, psycopg.OperationalError, lambda: psycopg.connect(dsn(user, password)))


def psycopg_2():
    with psycopg2.connect(dsn("reader", READER)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM t")
        assert cursor.fetchone() == (1,)
    connection.close()
    refused(None, psycopg2.OperationalError, lambda: psycopg2.connect(dsn("reader", "wrong")))


async def of_asyncpg():
    connection = await asyncpg.connect(host=HOST, port=PORT, user="reader", password=READER, database="main", ssl=SSL)
    assert [row["v"] for row in await connection.fetch("SELECT v FROM t WHERE v > $1", 1.0)] == [1.5]
    try:
        await connection.execute("DELETE FROM t")
        sys.exit("a reader deleted")
    except asyncpg.InsufficientPrivilegeError:
        pass
    await connection.close()
    try:
        await asyncpg.connect(host=HOST, port=PORT, user="reader", password="wrong", database="main", ssl=SSL)
        sys.exit("a wrong password was taken")
    except asyncpg.InvalidPasswordError:
        pass


def sqlalchemy():
    engine = sa.create_engine(f"postgresql+psycopg://reader:{READER}@{HOST}:{PORT}/main?{QUERY}")
    with engine.connect() as connection:
        assert sa.inspect(engine).get_table_names() == ["t"]
        assert connection.execute(sa.text("SELECT v FROM t")).scalar() == 1.5
    engine.dispose()


def adbc():
    uri = f"postgresql://reader:{READER}@{HOST}:{PORT}/main?{QUERY}"
    with adbc_driver_postgresql.dbapi.connect(uri) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT v FROM t")
        assert cursor.fetch_arrow_table()["v"].to_pylist() == [1.5]


psycopg_3()
psycopg_2()
asyncio.run(of_asyncpg())
sqlalchemy()
adbc()
print("ok psycopg, psycopg2, asyncpg, SQLAlchemy, ADBC with tokens" + (" over TLS" if CA else ""))
