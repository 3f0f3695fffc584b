"""The rows that all databases hold, from a seed, and how they get into each.

Three tables: `m`, an `upsert` table with two tags and a field of every type; `e`, an `append` table with repeated rows;
`d`, a small one that joins with both. A layout is one database of ours with these rows in one state of the engine.
"""

import datetime
import random

from engines import Duck

I64_MIN, I64_MAX, U64_MAX = -(2**63), 2**63 - 1, 2**64 - 1
EPOCH = datetime.datetime(1970, 1, 1)

# name, type of the generator, type in the three dialects
COLUMNS = {
    "m": [("site", "text"), ("host", "text"), ("time", "time"), ("f", "float"), ("g", "wild"), ("i", "int"),
          ("big", "big"), ("u", "u"), ("b", "bool"), ("s", "text")],
    "e": [("time", "time"), ("kind", "text"), ("n", "int"), ("x", "float"), ("ok", "bool")],
    "d": [("site", "text"), ("time", "time"), ("name", "text"), ("rank", "int"), ("w", "float")],
}  # fmt: skip
KEYS = {"m": ["site", "host", "time"], "d": ["site", "time"], "e": []}
TYPES = {
    "marigram": {"text": "VARCHAR", "time": "TIMESTAMP NOT NULL", "float": "DOUBLE PRECISION", "u": "BIGINT UNSIGNED"},
    "duckdb": {"text": "VARCHAR", "time": "TIMESTAMPTZ", "float": "DOUBLE", "u": "UBIGINT"},
    "postgres": {"text": "TEXT", "time": "TIMESTAMPTZ", "float": "DOUBLE PRECISION", "u": "NUMERIC(20)"},
}
ALIKE = {"wild": "float", "big": "int"}
PLAIN = {"int": "BIGINT", "bool": "BOOLEAN"}

WORDS = ["", "a", "A", "ab", "aB", "Abc", "b%", "b_c", "é", "É", "ñandú", "日本", "x y", " pad ", "O'Neil", 'say "x"', "back\\s",
         "10", "-3", "007", "zz", "a.b", "a,b", "tab\there", "𝄞"]  # fmt: skip
SITES = ["ber", "cux", "ham", "München", None]
HOSTS = ["h1", "h2", "h3", None]
WILD = [0.0, -0.0, 5e-324, -5e-324, 1e300, -1e300, 1.7976931348623157e308, 0.1, 1 / 3, 1e16, 123456.789, -2.5, 1e-7]


def instant(text):
    return int((datetime.datetime.fromisoformat(text) - EPOCH).total_seconds()) * 10**9


# Around a step of the clock forth and back in Berlin and New York, an end of month, leap days, before 1970, far ends.
ANCHORS = [instant(text) for text in (
    "2026-03-29T00:30:00", "2026-10-25T00:30:00", "2026-03-08T06:30:00", "2026-11-01T05:30:00", "2024-02-29T12:00:00",
    "2025-12-31T23:59:00", "1969-12-31T23:00:00", "1904-02-29T00:00:00", "1690-06-01T00:00:00", "2262-03-01T00:00:00",
    "2000-01-01T00:00:00")]  # fmt: skip


def draw_time(rng):
    anchor = rng.choice(ANCHORS if rng.random() < 0.7 else ANCHORS[:2])
    step = rng.choice([1, 1000, 10**6, 60 * 10**6, 1800 * 10**6, 3600 * 10**6, 86400 * 10**6])
    return anchor + rng.randrange(0, 40) * step * 1000


def tables(seed):
    """All rows: a list of tuples for each table, in the order of COLUMNS."""
    rng = random.Random(f"rows {seed}")

    def maybe(value):
        return None if rng.random() < 0.2 else value

    def whole():
        return rng.choice([0, 1, -1, 2, 3, 5, 7, 10, -10, 42, 100, -100])

    keyed = {}
    while len(keyed) < 90:
        key = rng.choice(SITES), rng.choice(HOSTS), draw_time(rng)
        fields = (maybe(rng.randrange(-800, 801) / 8), maybe(rng.choice(WILD)), maybe(whole()),
                  maybe(rng.choice([I64_MIN, I64_MAX, 0, 1, -1, 2**53 + 1, -(2**53) - 1, I64_MIN + 1, I64_MAX - 1])),
                  maybe(rng.choice([0, 1, U64_MAX, 2**63, I64_MAX, 7])), maybe(rng.random() < 0.5),
                  maybe(rng.choice(WORDS)))  # fmt: skip
        if any(field is not None for field in fields):
            keyed[key] = key + fields
    events = []
    for _ in range(30):
        row = (draw_time(rng), maybe(rng.choice(["up", "down", "Up", ""])), maybe(whole()), maybe(whole() / 4), maybe(rng.random() < 0.5))
        if any(field is not None for field in row[1:]):
            events += [row] * rng.choice([1, 1, 1, 2])
    sites = {}
    while len(sites) < 7:
        key = rng.choice(SITES), rng.choice(ANCHORS)
        sites[key] = key + (rng.choice(WORDS), maybe(rng.randrange(0, 5)), maybe(whole() / 8))
    return {"m": list(keyed.values()), "e": events, "d": list(sites.values())}


def literal(value, kind, dialect):
    if value is None:
        return "NULL"
    if kind == "text":
        return "'" + value.replace("'", "''") + "'"
    if kind == "time":
        at = EPOCH + datetime.timedelta(microseconds=value // 1000)
        return f"'{at.isoformat()}" + ("Z'" if dialect == "marigram" else "+00'")
    if kind in ("float", "wild"):
        return f"'{value!r}'::double precision" if dialect == "postgres" else f"CAST('{value!r}' AS DOUBLE)"
    if kind == "u" and dialect == "marigram":
        return f"CAST({value} AS BIGINT UNSIGNED)"
    return str(value).lower()


def create(table, dialect):
    """The statement that makes a table."""
    known = TYPES[dialect]
    columns = [f"{name} " + (known.get(ALIKE.get(kind, kind)) or PLAIN[ALIKE.get(kind, kind)]) for name, kind in COLUMNS[table]]
    if dialect == "marigram" and KEYS[table]:
        columns.append(f"PRIMARY KEY ({', '.join(KEYS[table])})")
    return f"CREATE TABLE {table} ({', '.join(columns)})"


def insert(table, rows, dialect):
    """The statement that stores rows."""
    kinds = [kind for _, kind in COLUMNS[table]]
    lines = ["(" + ", ".join(literal(v, k, dialect) for v, k in zip(row, kinds)) + ")" for row in rows]
    names = ", ".join(name for name, _ in COLUMNS[table])
    return f"INSERT INTO {table} ({names}) VALUES {', '.join(lines)}"


def statements(seed, dialect):
    """What makes and fills all tables, for an engine that keeps rows as they come."""
    found = []
    for table, rows in tables(seed).items():
        found += [create(table, dialect), insert(table, rows, dialect)]
    return found


def line(table, row):
    """A row as line protocol."""
    named = list(zip(COLUMNS[table], row))
    tags = [name for name in KEYS[table] if name != "time"]
    head, fields, time = table, [], None
    for (name, kind), value in named:
        if name == "time":
            time = value
        elif value is None:
            continue
        elif name in tags:
            head += f",{name}=" + value.replace(",", "\\,").replace(" ", "\\ ")
        else:
            fields.append(f"{name}=" + field(value, kind))
    return f"{head} {','.join(fields)} {time}"


def field(value, kind):
    if kind == "text":
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if kind in ("int", "big"):
        return f"{value}i"
    if kind == "u":
        return f"{value}u"
    return str(value).lower() if kind == "bool" else repr(value)


def store(database, rows_of, by_line):
    """Rows of all tables into a database of ours, by line protocol or by INSERT."""
    for table, rows in rows_of.items():
        for part in (rows[at : at + 25] for at in range(0, len(rows), 25)):
            if by_line:
                database.write([line(table, row) for row in part])
            else:
                database.must(insert(table, part, "marigram"))


# What a layout does before the server is stopped, which writes all memory out, and after it runs again.
LAYOUTS = ["memtable", "hot", "sealed", "overlay", "compacted"]


def before(database, layout, seed):
    database.must(f"CREATE DATABASE IF NOT EXISTS {layout}")
    for table in COLUMNS:
        database.must(create(table, "marigram"))
    rows = tables(seed)
    if layout == "hot":
        store(database, rows, by_line=True)
    elif layout == "sealed":
        store(database, rows, by_line=False)
        for table in COLUMNS:
            database.must(f"OPTIMIZE TABLE {table} FINAL")
    elif layout in ("overlay", "compacted"):
        store(database, wrong(rows), by_line=True)


def after(database, layout, seed):
    rows = tables(seed)
    if layout == "memtable":
        store(database, rows, by_line=False)
    elif layout in ("overlay", "compacted"):
        for table in ("m", "d"):
            database.must(f"DELETE FROM {table} WHERE host = 'gone'" if table == "m" else "DELETE FROM d WHERE site = 'gone'")
        # In an `append` table what is wrong goes whole; in the others the later value wins.
        database.must("DELETE FROM e WHERE kind = 'wrong'")
        halves = {"m": rows["m"][::2], "e": rows["e"][::2], "d": rows["d"][::2]}
        store(database, halves, by_line=True)
        if layout == "compacted":
            for table in COLUMNS:
                database.must(f"OPTIMIZE TABLE {table} FINAL")


def wrong(rows):
    """What is there before the right rows: half of them with other values, and some whose deletion follows."""
    def other(value, kind):
        return {"float": 1.5, "wild": 2.5, "int": 77, "big": 5, "u": 5, "bool": True, "text": "wrong"}[kind] if value is not None else None

    changed = {}
    for table in ("m", "d"):
        kinds, keys = COLUMNS[table], len(KEYS[table])
        early = [row[:keys] + tuple(other(v, k) for v, (_, k) in zip(row[keys:], kinds[keys:])) for row in rows[table][::2]]
        gone = [(row[0], "gone", *row[2:]) if table == "m" else ("gone", *row[1:]) for row in rows[table][::3]]
        changed[table] = early + rows[table][1::2] + list({row[:keys]: row for row in gone}.values())
    changed["e"] = rows["e"][1::2] + [(row[0], "wrong", *row[2:]) for row in rows["e"][::2]]
    return changed


def check(database, seed, duck=None):
    """A layout must hold what it should, or nothing that follows means anything."""
    duck = duck or Duck(statements(seed, "duckdb"))
    for table in COLUMNS:
        names = ", ".join(name for name, _ in COLUMNS[table])
        mine, theirs = (sorted(map(repr, it.run(f"SELECT {names} FROM {table}").rows)) for it in (database, duck))
        assert mine == theirs, f"{database.database}.{table}: {len(mine)} rows, not {len(theirs)}: {set(mine) ^ set(theirs)}"
