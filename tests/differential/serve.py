"""Starts the servers that are tested, puts the rows into every layout, and ends them with what it was told to run.

    serve.py MARIGRAM DIRECTORY [--data N] [--postgres CONNINFO] -- arguments of main.py
"""

import os
import pathlib
import subprocess
import sys

import data
from engines import Marigram, Postgres


def start(binary, directory, name, cpu=None):
    """A server on a directory, and its port; with `cpu` on that one only, so it runs each query on one thread."""
    log = open(directory / f"{name}.log", "a")
    bind = (lambda: os.sched_setaffinity(0, {cpu})) if cpu is not None else None
    server = subprocess.Popen(
        [binary, "serve", "--data-dir", directory / name, "--http", "127.0.0.1:0", "--pg", "none"], stdout=subprocess.PIPE, stderr=log, text=True, preexec_fn=bind)  # fmt: skip
    first = server.stdout.readline()
    if not first.startswith("http listening on"):
        server.kill()
        sys.exit(f"the server did not start: {(directory / f'{name}.log').read_text()[-1000:]}")
    return server, int(first.rsplit(":", 1)[1])


def stop(server):
    server.terminate()
    assert server.wait(60) == 0


def load(binary, directory, seed):
    """Two servers, with all layouts in the first and rows of one layout in the second, which has one thread."""
    one, port_one = start(binary, directory, "one", min(os.sched_getaffinity(0)))
    server, port = start(binary, directory, "all")
    for layout in data.LAYOUTS:
        data.before(Marigram(port, layout), layout, seed)
    data.before(Marigram(port_one, "hot"), "hot", seed)
    stop(server)
    server, port = start(binary, directory, "all")
    for layout in data.LAYOUTS:
        data.after(Marigram(port, layout), layout, seed)
        data.check(Marigram(port, layout), seed)
    return (server, port), (one, port_one)


def main():
    binary, directory, *rest = sys.argv[1:]
    own, asked = rest[: rest.index("--")], rest[rest.index("--") + 1 :]
    options = dict(zip(own[::2], own[1::2]))
    seed, conninfo = int(options.get("--data", "1")), options.get("--postgres")
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True)
    if conninfo:
        statements = ["DROP SCHEMA public CASCADE", "CREATE SCHEMA public", *data.statements(seed, "postgres"), "ANALYZE"]
        Postgres(conninfo, statements)
        asked += ["--postgres", conninfo]
    (server, port), (one, port_one) = load(binary, directory, seed)
    try:
        here = pathlib.Path(__file__).parent
        command = [sys.executable, here / "main.py", "--data", str(seed), "--port", str(port), "--port-one", str(port_one), *asked]
        status = subprocess.run(command, check=False).returncode
    finally:
        stop(server)
        stop(one)
    sys.exit(status)


if __name__ == "__main__":
    main()
