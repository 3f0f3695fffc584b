"""One seed is one query: a tree of typed parts, drawn so that PostgreSQL accepts it, with its text in three dialects.

What is drawn says how answers are compared: the type of each column, and whether their order is fixed. A query that is
ordered is ordered by all its columns in the end, so that rows that tie are equal rows.
"""

import random

from data import COLUMNS
from nodes import Node, Query, alias, joined, uses
from operators import AGGREGATES, LITERALS, MOMENTS, OPERATORS, STRICT
from windows import Windows



class Generator(Windows):
    def __init__(self, seed):
        self.rng = random.Random(f"query {seed}")
        self.names = 0

    def chance(self, share):
        return self.rng.random() < share

    def name(self, prefix="c"):
        self.names += 1
        return f"{prefix}{self.names}"

    # Expressions.

    def literal(self, kind):
        return Node(kind, self.rng.choice(LITERALS[kind]))

    @staticmethod
    def has(scope, argument):
        """Whether an argument that must be a column finds one."""
        return not argument.startswith("=") or any(column.kind == argument[1:] for column in scope)

    def leaf(self, kind, scope, share=0.75):
        fitting = [column for column in scope if column.kind == kind]
        if fitting and (kind not in LITERALS or self.chance(share)):
            return self.rng.choice(fitting)
        if kind in LITERALS:
            return self.literal(kind)
        return self.expression(kind, scope, 1)

    def expression(self, kind, scope, depth):
        if kind in ("small", "count"):
            return self.literal(kind)
        if kind == "dyadic":
            return self.dyadic(scope)
        if kind == "any":
            kind = self.rng.choice(["int", "float", "text", "time", "bool"])
        if depth <= 0 and (kind in LITERALS or any(column.kind == kind for column in scope)):
            return self.leaf(kind, scope)
        if self.chance(0.15) and kind in LITERALS:
            return self.leaf(kind, scope)
        choices = OPERATORS[kind]
        found = self.rng.choices(choices, [choice.weight for choice in choices])[0]
        return Node(kind, found.spelling, *(self.expression(argument, scope, depth - 1) for argument in found.arguments))

    def dyadic(self, scope):
        """A double whose sums are exact in any order, so that all databases agree to the bit."""
        columns = [column for column in scope if column.kind == "float"]
        first = self.rng.choice(columns) if columns else self.literal("float")
        return Node("float", "({0} * 2.0)", first) if self.chance(0.2) else first

    def condition(self, scope, depth=2):
        return self.expression("bool", scope, self.rng.randint(1, depth))

    def output(self, scope, depth=2):
        kind = self.rng.choices(
            ["int", "float", "text", "bool", "time", "local", "date", "span", "big", "u", "wild", "approx"],
            [5, 5, 6, 4, 5, 2, 1, 0.7, 1, 1, 2, 3])[0]  # fmt: skip
        return self.expression(kind, scope, self.rng.randint(0, depth))

    # Sources of rows.

    def table(self, name=None, as_name=None):
        """A table under a name of its own, and its columns."""
        name = name or self.rng.choices(["m", "e", "d"], [6, 2, 2])[0]
        as_name = as_name or self.name("t")
        return Node("from", f"{name} AS {as_name}"), [Node(kind, f"{as_name}.{column}") for column, kind in COLUMNS[name]]

    def derived(self, depth):
        """A subquery as a table."""
        query = self.select(depth - 1, inner=True)
        as_name = self.name("q")
        columns = [Node(kind, f"{as_name}.{name}") for kind, name in zip(query.kinds, query.names) if kind in COLUMN_KINDS]
        return Node("from", f"({{0}}) AS {as_name}", query.root), columns

    def values(self):
        as_name, kinds = self.name("v"), self.rng.choices(["int", "text", "float", "bool"], k=self.rng.randint(1, 3))
        rows = [Node("row", "(" + ", ".join(f"{{{at}}}" for at in range(len(kinds))) + ")", *(self.literal(kind) for kind in kinds))
                for _ in range(self.rng.randint(1, 4))]  # fmt: skip
        names = ", ".join(f"c{at}" for at in range(len(kinds)))
        source = Node("from", f"(VALUES {{0}}) AS {as_name}({names})", joined(rows))
        return source, [Node(kind, f"{as_name}.c{at}") for at, kind in enumerate(kinds)]

    def series(self):
        if self.chance(0.3):
            as_name, day, step = self.name("g"), self.rng.choice(MOMENTS)[:10], self.rng.choice(["6 hours", "1 day", "90 minutes", "1 month"])
            text = f"generate_series(TIMESTAMPTZ '{day} 00:00:00+00', TIMESTAMPTZ '{day} 22:00:00+00', INTERVAL '{step}') AS {as_name}(n)"
            return Node("from", text), [Node("time", f"{as_name}.n")]
        as_name, first = self.name("g"), self.rng.randint(-3, 3)
        last, step = first + self.rng.randint(0, 8), self.rng.choice([1, 1, 2, 3])
        text = f"generate_series({first}, {last}, {step}) AS {as_name}(n)"
        return Node("from", text), [Node("int", f"{as_name}.n")]

    def source(self, depth):
        roll = self.rng.random()
        if depth > 0 and roll < 0.12:
            return self.derived(depth)
        if roll < 0.16:
            return self.values()
        if roll < 0.19:
            return self.series()
        if depth > 0 and roll < 0.42:
            return self.join(depth)
        return self.table()

    def join(self, depth):
        left, scope = self.table() if self.chance(0.8) else self.source(depth - 1)
        right, other = self.rng.choice([self.table, self.table, self.values])()
        how = self.rng.choices(["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "CROSS JOIN"], [5, 4, 2, 2, 1])[0]
        if how == "CROSS JOIN":
            return Node("from", "{0} CROSS JOIN {1}", left, right), scope + other
        pairs = [(a, b) for a in scope for b in other if a.kind == b.kind and a.kind in ("int", "text", "time", "float", "wild")]
        if not pairs:
            return Node("from", "{0} CROSS JOIN {1}", left, right), scope + other
        named = [(a, b) for a, b in pairs if a.spelling[0].split(".")[1] == b.spelling[0].split(".")[1]]
        if named and self.chance(0.15):
            shared = self.rng.choice(named)[0].spelling[0].split(".")[1]
            return Node("from", f"{{0}} {how} {{1}} USING ({shared})", left, right), scope + other
        on = [Node("bool", "({0} = {1})", *self.rng.choice(named if named and self.chance(0.6) else pairs))]
        if self.chance(0.3):
            on.append(Node("bool", "({0} = {1})", *self.rng.choice(pairs)))
        # A FULL JOIN of PostgreSQL takes equalities only.
        if self.chance(0.3) and how != "FULL JOIN":
            on.append(self.condition(scope + other, 1))
        return Node("from", f"{{0}} {how} {{1}} ON {{2}}", left, right, joined(on, " AND ", "bool")), scope + other

    # Conditions with queries in them.

    def subcondition(self, scope, depth):
        inner, columns = self.table()
        correlated = self.chance(0.5)
        where = [self.condition(columns, 1)]
        if correlated:
            pairs = [(a, b) for a in columns for b in scope if a.kind == b.kind and a.kind in ("int", "text", "time")]
            if pairs:
                where.append(Node("bool", "({0} = {1})", *self.rng.choice(pairs)))
        where = joined(where, " AND ", "bool")
        shared = [kind for kind in ("int", "text", "float", "time") if any(column.kind == kind for column in columns)]
        kind = self.rng.choice(shared)
        outer, column = self.expression(kind, scope, 1), self.leaf(kind, columns)
        form = self.rng.choice(["exists", "in", "in", "any", "all", "scalar"])
        turned = "NOT " if self.chance(0.4) else ""
        if form == "exists":
            return Node("bool", f"({turned}EXISTS (SELECT 1 FROM {{0}} WHERE {{1}}))", inner, where)
        if form == "in":
            return Node("bool", f"({{0}} {turned}IN (SELECT {{1}} FROM {{2}} WHERE {{3}}))", outer, column, inner, where)
        sign = self.rng.choice(["=", "<>", "<", ">="])
        if form == "scalar":
            name = self.rng.choice(["min", "max"])
            return Node("bool", f"({{0}} {sign} (SELECT {name}({{1}}) FROM {{2}} WHERE {{3}}))", outer, column, inner, where)
        return Node("bool", f"({{0}} {sign} {form.upper()} (SELECT {{1}} FROM {{2}} WHERE {{3}}))", outer, column, inner, where)

    def where(self, scope, depth, share=0.7):
        if not self.chance(share):
            return None
        parts = [self.condition(scope)]
        if depth > 0 and self.chance(0.25):
            parts.append(self.subcondition(scope, depth))
        return joined(parts, self.rng.choice([" AND ", " AND ", " OR "]), "bool")

    # Queries.

    def finish(self, parts, columns, names, shape, order=None):
        """Puts a SELECT together and gives it an order of all its columns, or none."""
        root = Node("query", " ".join(f"{word}{{{at}}}" for at, (word, _) in enumerate(parts)), *(part for _, part in parts))
        kinds = [column.kind for column in columns]
        query = Query(root, kinds, False, shape)
        query.names = names
        if order if order is not None else self.chance(0.4):
            query = self.ordered(query)
        return query

    def ordered(self, query):
        exact = [name for name, kind in zip(query.names, query.kinds) if kind not in ("approx", "list", "fsum")]
        if not exact or len(exact) < len(query.names):
            return query
        self.rng.shuffle(exact)
        keys = ", ".join(name + self.rng.choice(["", " ASC", " DESC", " NULLS FIRST", " DESC NULLS LAST"]) for name in exact)
        text = f"{{0}} ORDER BY {keys}"
        if self.chance(0.5):
            text += f" LIMIT {self.rng.choice([0, 1, 3, 10, 50])}"
            text += f" OFFSET {self.rng.choice([1, 2, 20])}" if self.chance(0.3) else ""
        found = Query(Node("query", text, query.root), query.kinds, True, query.shape)
        found.names = query.names
        return found

    def select(self, depth, inner=False):
        roll = self.rng.random()
        if depth > 0 and roll < 0.08:
            return self.set_operation(depth, inner)
        if roll < 0.38:
            return self.grouped(depth, inner)
        if roll < 0.46:
            return self.distinct(depth, inner)
        if roll < 0.56 and not inner:
            return self.windowed(depth)
        return self.plain(depth, inner)

    def plain(self, depth, inner):
        source, scope = self.source(depth)
        columns = [self.output(scope) for _ in range(self.rng.randint(1, 4))]
        names = [self.name() for _ in columns]
        parts = [("SELECT ", joined([alias(c, n) for c, n in zip(columns, names)])), ("FROM ", source)]
        where = self.where(scope, depth)
        if where:
            parts.append(("WHERE ", where))
        return self.finish(parts, columns, names, "plain", False if inner else None)

    def distinct(self, depth, inner):
        if self.chance(0.3):
            return self.distinct_on(inner)
        source, scope = self.source(depth)
        columns = [self.expression(self.rng.choice(["int", "text", "bool", "time", "float"]), scope, 1) for _ in range(self.rng.randint(1, 2))]
        names = [self.name() for _ in columns]
        parts = [("SELECT DISTINCT ", joined([alias(c, n) for c, n in zip(columns, names)])), ("FROM ", source)]
        where = self.where(scope, depth)
        if where:
            parts.append(("WHERE ", where))
        return self.finish(parts, columns, names, "distinct", False if inner else None)

    def distinct_on(self, inner):
        source, scope = self.table("m", "m")
        key = self.rng.sample(["site", "host"], self.rng.randint(1, 2))
        down = self.rng.choice(["", " DESC"])
        named = {column.spelling[0].split(".")[1]: column for column in scope}
        columns = [named[name] for name in ("site", "host", "time", "f", "i", "s", "g")]
        names = ["site", "host", "time", "f", "i", "s", "g"]
        rest = [name for name in ("site", "host") if name not in key]
        order = ", ".join([*key, f"time{down}", *rest])
        select = f"SELECT DISTINCT ON ({', '.join(key)}) "
        parts = [(select, joined([alias(c, n) for c, n in zip(columns, names)])), ("FROM ", source)]
        where = self.time_filter() if self.chance(0.5) else None
        if where:
            parts.append(("WHERE ", where))
        root = Node("query", " ".join(f"{word}{{{at}}}" for at, (word, _) in enumerate(parts)) + f" ORDER BY {order}", *(p for _, p in parts))
        query = Query(root, [column.kind for column in columns], not inner, "distinct on")
        query.names = names
        return query

    def time_filter(self):
        """What dashboards filter by: a range of time, and values of tags."""
        first, second = sorted(self.rng.sample(MOMENTS, 2))
        parts = [Node("bool", f"time {self.rng.choice(['>=', '>'])} TIMESTAMP '{first}'"),
                 Node("bool", f"time {self.rng.choice(['<', '<='])} TIMESTAMP '{second}'")]  # fmt: skip
        parts = self.rng.sample(parts, self.rng.randint(0, 2))
        for tag, words in (("site", ["'ber'", "'cux'", "'ham'", "'nowhere'"]), ("host", ["'h1'", "'h2'", "'h3'", "''"])):
            if self.chance(0.4):
                two = ", ".join(self.rng.sample(words, 2))
                parts.append(Node("bool", tag + self.rng.choice([f" = {words[0]}", f" = {words[1]}", f" IN ({two})", f" <> {words[2]}", " IS NULL",
                                                                 " IS NOT NULL", f" NOT IN ({two})", f" >= {words[1]}"])))  # fmt: skip
        if self.chance(0.2):
            parts.append(Node("bool", self.rng.choice(["f > 10", "i <= 3", "b", "f < 0.5", "g > 0", "s = 'a'", "f IS NOT NULL", "i <> 0"])))
        return joined(parts, " AND ", "bool") if parts else None

    def aggregate(self, scope):
        fitting = [found for found in AGGREGATES if all(self.has(scope, it) for it in found[1].split())]
        result, arguments, spelling, _ = self.rng.choices(fitting, [found[3] for found in fitting])[0]
        kids = [self.leaf(it[1:], [c for c in scope if c.kind == it[1:]], 1.0) if it.startswith("=") else
                self.expression(it, scope, self.rng.choice([0, 0, 1])) for it in arguments.split()]  # fmt: skip
        only = more = ""
        if self.chance(0.2):
            kids.append(self.condition(scope, 1))
            only, more = f" FILTER (WHERE {{{len(kids) - 1}}})", f" AND {{{len(kids) - 1}}}"
        spelling = (spelling,) * 3 if isinstance(spelling, str) else spelling
        forms = tuple(form and form.replace("{f}", only).replace("{and}", more) for form in spelling)
        return Node(kids[0].kind if result == "same" else result, forms, *kids)

    def grouped(self, depth, inner):
        if self.chance(0.4):
            return self.dashboard(inner)
        source, scope = self.source(depth)
        keys = [self.expression(self.rng.choice(["int", "text", "bool", "time", "float", "wild"]), scope, self.rng.randint(0, 1))
                for _ in range(self.rng.randint(0, 3))]  # fmt: skip
        keys = [key for key in keys if uses(key, scope)]
        columns = keys + [self.aggregate(scope) for _ in range(self.rng.randint(1, 3))]
        names = [self.name() for _ in columns]
        parts = [("SELECT ", joined([alias(c, n) for c, n in zip(columns, names)])), ("FROM ", source)]
        where = self.where(scope, depth)
        if where:
            parts.append(("WHERE ", where))
        if keys:
            places = [str(at + 1) for at in range(len(keys))]
            form = self.rng.choices(["plain", "rollup", "cube", "sets"], [6, 1, 1, 1])[0]
            text = ", ".join(places)
            if form != "plain":
                texts = [f"{{{at}}}" for at in range(len(keys))]
                text = {"rollup": f"ROLLUP ({', '.join(texts)})", "cube": f"CUBE ({', '.join(texts)})",
                        "sets": f"GROUPING SETS (({', '.join(texts)}), ({texts[0]}), ())"}[form]  # fmt: skip
                parts.append(("GROUP BY ", Node("list", text, *keys)))
            else:
                parts.append(("GROUP BY ", Node("list", text)))
        if self.chance(0.2):
            parts.append(("HAVING ", Node("bool", self.rng.choice(["count(*) > 1", "count(*) <= 2", "{0} IS NOT NULL", "count(*) > 1000"]), columns[-1])))
        return self.finish(parts, columns, names, "grouped", False if inner else None)

    def dashboard(self, inner):
        """Groups of one table by tags and buckets of time, of plain columns: what our own operators answer."""
        source = Node("from", "m")
        scope = [Node(kind, name) for name, kind in COLUMNS["m"]]
        tags = self.rng.sample(["site", "host"], self.rng.randint(0, 2))
        columns, names = [Node("text", tag) for tag in tags], list(tags)
        if self.chance(0.6):
            unit, zone = self.rng.choice(["hour", "day", "month", "minute"]), "2000-01-03 00:00:00+00"
            width = self.rng.choice(["1 hour", "1 day", "15 minutes", "7 days"])
            bucket = self.rng.choice([
                f"date_trunc('{unit}', time)",
                (f"time_bucket('{width}', time)", f"time_bucket(INTERVAL '{width}', time, TIMESTAMPTZ '{zone}')", f"date_bin('{width}', time, TIMESTAMPTZ '{zone}')"),
                (f"date_bin(INTERVAL '{width}', time, TIMESTAMP '1970-01-01')", f"time_bucket(INTERVAL '{width}', time, TIMESTAMPTZ '1970-01-01 00:00:00+00')",
                 f"date_bin(INTERVAL '{width}', time, TIMESTAMPTZ '1970-01-01 00:00:00+00')"),
            ])  # fmt: skip
            columns.append(Node("time", bucket))
            names.append("bucket")
        keys = len(columns)
        for _ in range(self.rng.randint(1, 4)):
            columns.append(self.aggregate(scope) if self.chance(0.4) else self.simple_aggregate())
            names.append(self.name())
        parts = [("SELECT ", joined([alias(c, n) for c, n in zip(columns, names)])), ("FROM ", source)]
        where = self.time_filter()
        if where:
            parts.append(("WHERE ", where))
        if keys:
            parts.append(("GROUP BY ", Node("list", ", ".join(str(at + 1) for at in range(keys)))))
        return self.finish(parts, columns, names, "dashboard", False if inner else None)

    def simple_aggregate(self):
        column, kind = self.rng.choice([("f", "float"), ("i", "int"), ("g", "wild"), ("time", "time"), ("s", "text"), ("u", "u"), ("big", "big")])
        name = self.rng.choice(["min", "max", "count", "first", "last"] + ["sum", "avg"] * (kind in ("float", "int")) * 3)
        if name in ("first", "last"):
            down = " DESC" if name == "last" else ""
            return Node(kind, (f"{name}({column}, time)", None,
                               f"(array_agg({column} ORDER BY time{down}, {column}{down}) FILTER (WHERE {column} IS NOT NULL))[1]"))  # fmt: skip
        result = {"count": "int", "avg": "approx"}.get(name, kind)
        return Node(result, f"{name}({column})")

    def set_operation(self, depth, inner):
        kinds = self.rng.choices(["int", "text", "float", "bool", "time"], k=self.rng.randint(1, 2))
        names = [self.name() for _ in kinds]
        sides = []
        for _ in range(2):
            source, scope = self.source(depth - 1)
            columns = [alias(self.expression(kind, scope, 1), name) for kind, name in zip(kinds, names)]
            where = self.where(scope, 0)
            sides.append(Node("query", "SELECT {0} FROM {1}" + (" WHERE {2}" if where else ""), joined(columns), source, *([where] if where else [])))
        word = self.rng.choice(["UNION", "UNION ALL", "INTERSECT", "EXCEPT", "INTERSECT ALL", "EXCEPT ALL"])
        query = Query(Node("query", f"{{0}} {word} {{1}}", *sides), kinds, False, "set")
        query.names = names
        return self.ordered(query) if not inner and self.chance(0.5) else query

    def with_query(self, depth):
        if self.chance(0.3):
            return self.recursive()
        inner = self.select(depth - 1, inner=True)
        name = self.name("cte")
        columns = [Node(kind, f"{name}.{column}") for kind, column in zip(inner.kinds, inner.names) if kind in COLUMN_KINDS]
        if not columns:
            return inner
        outputs = [self.output(columns, 1) for _ in range(self.rng.randint(1, 3))]
        names = [self.name() for _ in outputs]
        twice = self.chance(0.3)
        source = Node("from", f"{name}" + (f" CROSS JOIN (SELECT count(*) AS n FROM {name}) AS n" if twice else ""))
        body = [("SELECT ", joined([alias(c, n) for c, n in zip(outputs, names)])), ("FROM ", source)]
        parts = [(f"WITH {name} AS (", inner.root), *[((") " if at == 0 else "") + word, part) for at, (word, part) in enumerate(body)]]
        where = self.where(columns, 0)
        if where:
            parts.append(("WHERE ", where))
        return self.finish(parts, outputs, names, "with")

    def recursive(self):
        start, end, step = self.rng.randint(-3, 3), self.rng.randint(4, 12), self.rng.randint(1, 3)
        text = (f"WITH RECURSIVE r(n, p) AS (SELECT CAST({start} AS BIGINT), CAST(1 AS BIGINT) UNION ALL SELECT n + {step}, p * 2 FROM r WHERE n < {end}) "
                "SELECT r.n AS n, r.p AS p, {0} AS c FROM r")  # fmt: skip
        scope = [Node("int", "r.n"), Node("int", "r.p")]
        column = self.output(scope, 1)
        query = Query(Node("query", text, column), ["int", "int", column.kind], False, "recursive")
        query.names = ["n", "p", "c"]
        return query

    def strict(self):
        """One operation that may fail, of the columns of a few rows."""
        source, scope = self.table("m")
        found = self.rng.choice(STRICT)
        column = Node(found.result, found.spelling, *(self.leaf(argument, scope, 0.9) for argument in found.arguments))
        tag = self.rng.choice(["site = 'ber'", "host = 'h1'", "site IS NULL", "b", "host = 'h2'"])
        root = Node("query", f"SELECT {{0}} AS c FROM {{1}} WHERE {tag}", column, source)
        query = Query(root, [found.result], False, "strict")
        query.names = ["c"]
        return query

    def query(self):
        roll = self.rng.random()
        if roll < 0.05:
            return self.strict()
        if roll < 0.08:
            return self.with_query(2)
        if roll < 0.14:
            columns = [self.output([], 3) for _ in range(self.rng.randint(1, 3))]
            names = [self.name() for _ in columns]
            return self.finish([("SELECT ", joined([alias(c, n) for c, n in zip(columns, names)]))], columns, names, "constants", False)
        return self.select(2)


COLUMN_KINDS = {"int", "float", "text", "bool", "time", "big", "u", "wild", "local", "date", "span"}


def generate(seed):
    return Generator(seed).query()
