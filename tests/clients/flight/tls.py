"""ADBC, pyarrow.flight and influxdb3-python over TLS.

    python tls.py HOST:PORT TOKEN CA     CA: a file of certificates to trust
"""

import json
import sys

import pyarrow.flight as flight
from adbc_driver_flightsql import DatabaseOptions, dbapi
from influxdb_client_3 import InfluxDBClient3, Point, write_client_options
from influxdb_client_3.write_client.client.write_api import WriteOptions, WriteType

ADDRESS, TOKEN, CA = sys.argv[1].replace("127.0.0.1", "localhost"), sys.argv[2], sys.argv[3]
with open(CA, encoding="ascii") as file:
    TRUSTED = file.read()
SQL = "SELECT v FROM over_tls"

options = write_client_options(write_options=WriteOptions(write_type=WriteType.synchronous, use_v2_api=False))
with InfluxDBClient3(
    host=f"https://{ADDRESS}", token=TOKEN, database="py", write_client_options=options, ssl_ca_cert=CA
) as client:
    client.write([Point("over_tls").field("v", 1.5).time(1)])
    assert client.query(SQL, mode="all")["v"].to_pylist() == [1.5]

head = flight.FlightCallOptions(headers=[(b"authorization", f"Bearer {TOKEN}".encode())])
with flight.connect(f"grpc+tls://{ADDRESS}", tls_root_certs=TRUSTED) as client:
    ticket = flight.Ticket(json.dumps({"database": "py", "sql_query": SQL}).encode())
    assert client.do_get(ticket, head).read_all()["v"].to_pylist() == [1.5]

settings = {
    DatabaseOptions.RPC_CALL_HEADER_PREFIX.value + "database": "py",
    DatabaseOptions.AUTHORIZATION_HEADER.value: f"Bearer {TOKEN}",
    DatabaseOptions.TLS_ROOT_CERTS.value: TRUSTED,
}
with dbapi.connect(f"grpc+tls://{ADDRESS}", db_kwargs=settings, autocommit=True) as connection:
    with connection.cursor() as cursor:
        cursor.execute(SQL)
        assert cursor.fetch_arrow_table()["v"].to_pylist() == [1.5]
print("ok pyarrow.flight, adbc_driver_flightsql, influxdb3-python over TLS")
