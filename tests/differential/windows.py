"""Queries with window functions: over one table, so that a key tells its rows apart, and no order leaves the answer open."""

from nodes import Node, alias, joined


class Windows:
    def windowed(self, depth):
        table = self.rng.choice(["m", "m", "e", "d"])
        source, scope = self.table(table, "w")
        if table == "e":
            # Rows repeat in `e`: none of them may come apart by the order that a database happened to take.
            source = Node("from", "(SELECT DISTINCT time, kind, n, x, ok FROM e) AS w")
        keys = {"m": ["w.time", "w.site", "w.host"], "d": ["w.time", "w.site"], "e": ["w.time", "w.kind", "w.n", "w.x", "w.ok"]}[table]
        columns = self.rng.sample(scope, 2)
        for _ in range(self.rng.randint(1, 2)):
            columns.append(self.window(scope, keys))
        names = [self.name() for _ in columns]
        parts = [("SELECT ", joined([alias(c, n) for c, n in zip(columns, names)])), ("FROM ", source)]
        where = self.where(scope, 0, 0.4)
        if where:
            parts.append(("WHERE ", where))
        return self.finish(parts, columns, names, "window")

    def window(self, scope, keys):
        partition = self.rng.choice([column for column in scope if column.kind in ("text", "bool", "int")])
        down = self.rng.choice(["", " DESC", " NULLS FIRST"])
        first = self.rng.choice([column for column in scope if column.kind in ("int", "float", "time", "text", "wild")])
        total = Node("order", f"{{0}}{down}, {', '.join(keys)}", first)
        ties = Node("order", f"{{0}}{down}", first)
        over = "PARTITION BY {1} " if self.chance(0.7) else ""
        number = self.rng.choice([column for column in scope if column.kind in ("int", "float")])
        form = self.rng.choice(["rank", "shift", "value", "sum", "sum", "range", "groups"])
        if form == "rank":
            name, kind = self.rng.choice([("rank()", "int"), ("dense_rank()", "int"), ("percent_rank()", "approx"), ("cume_dist()", "approx")])
            return Node(kind, f"{name} OVER ({over}ORDER BY {{2}})", number, partition, ties)
        if form == "shift":
            value = self.rng.choice(scope)
            name = self.rng.choice(["lag({0})", "lead({0})", "lag({0}, 2)", "lead({0}, 3)", "lag({0}, 0)"])
            return Node(value.kind, f"{name} OVER ({over}ORDER BY {{2}})", value, partition, total)
        bounds = ["UNBOUNDED PRECEDING", "2 PRECEDING", "1 PRECEDING", "CURRENT ROW", "1 FOLLOWING", "3 FOLLOWING", "UNBOUNDED FOLLOWING"]
        low = self.rng.randint(0, 5)
        high = self.rng.randint(max(low, 1), 6)
        frame = f"BETWEEN {bounds[low]} AND {bounds[high]}"
        if form == "value":
            value = self.rng.choice(scope)
            name = self.rng.choice(["first_value({0})", "last_value({0})", "nth_value({0}, 2)", "row_number()", "ntile(3)"])
            kind = "int" if name in ("row_number()", "ntile(3)") else value.kind
            text = name + f" OVER ({over}ORDER BY {{2}}" + ("" if "()" in name or "ntile" in name else f" ROWS {frame}") + ")"
            return Node(kind, text, value, partition, total)
        name = self.rng.choice(["sum", "count", "min", "max", "avg"])
        kind = {"count": "int", "avg": "approx"}.get(name, number.kind)
        if form == "sum":
            return Node(kind, f"{name}({{0}}) OVER ({over}ORDER BY {{2}} ROWS {frame})", number, partition, total)
        if form == "groups":
            return Node(kind, f"{name}({{0}}) OVER ({over}ORDER BY {{2}} GROUPS {frame})", number, partition, ties)
        text = self.rng.choice([f"{over}ORDER BY {{2}}", over.strip() or "", f"{over}ORDER BY {{2}} RANGE BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING"])
        return Node(kind, f"{name}({{0}}) OVER ({text})", number, partition, ties)
