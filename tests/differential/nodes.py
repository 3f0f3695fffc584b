"""What queries are made of: a tree of typed parts, each with its spelling in three dialects."""

DIALECTS = ("marigram", "duckdb", "postgres")


class Node:
    """A part of a query: its type, its spelling in three dialects (`{0}` is a child), its children."""

    __slots__ = ("kind", "spelling", "kids")

    def __init__(self, kind, spelling, *kids):
        self.kind, self.kids = kind, list(kids)
        self.spelling = (spelling,) * 3 if isinstance(spelling, str) else spelling

    def text(self, dialect):
        """The text, or None where that database has no such thing."""
        form = self.spelling[dialect]
        if form is None or not self.kids:
            return form
        parts = [kid.text(dialect) for kid in self.kids]
        if None in parts:
            return None
        for at, part in enumerate(parts):
            form = form.replace(f"{{{at}}}", f"\0{at}\1")
        for at, part in enumerate(parts):
            form = form.replace(f"\0{at}\1", part)
        return form


class Query:
    """A tree with what its answer looks like."""

    def __init__(self, root, kinds, ordered, shape):
        self.root, self.kinds, self.ordered, self.shape = root, kinds, ordered, shape

    def texts(self):
        return {name: self.root.text(at) for at, name in enumerate(DIALECTS)}


def joined(nodes, between=", ", kind="list"):
    return Node(kind, between.join(f"{{{at}}}" for at in range(len(nodes))), *nodes)


def uses(node, scope):
    """Whether a part reads a column: PostgreSQL groups by nothing else."""
    return node in scope or any(uses(kid, scope) for kid in node.kids)


def alias(node, name):
    return Node(node.kind, f"{{0}} AS {name}", node)
