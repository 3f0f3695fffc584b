"""What may differ, and why: each reason has its paragraph in DIFFERENCES.md and excuses no more than it says.

Where words of an answer do not tell enough, a reason is put to the test: the query is asked again with what it is about
taken out of it (`without`), of both, and only where that makes the answers equal is the difference excused.
"""

import re

from engines import Failure
from nodes import Node, Query


def rebuilt(query, change):
    """The query with some of its parts replaced: `change` gives another node, or None."""
    done = {}

    def walk(node):
        if id(node) not in done:
            copy = Node(node.kind, node.spelling, *map(walk, node.kids))
            done[id(node)] = (node, change(node, copy) or copy)
        return done[id(node)][1]

    return Query(walk(query.root), query.kinds, query.ordered, query.shape)


def spelled(node, *words):
    return any(word in (node.spelling[0] or "") for word in words)


def is_alias(node):
    return (node.spelling[0] or "").startswith("{0} AS ")


def plus_zero(node, copy):
    """−0.0 + 0.0 is 0.0."""
    if node.kind in ("float", "wild") and not is_alias(node) and node.spelling[0]:
        return Node(node.kind, "({0} + 0.0)", copy)
    return None


def positive_nan(node, copy):
    if node.kind in ("float", "wild") and spelled(node, "(- {0})"):
        return Node(node.kind, "(0.0 - {0})", *copy.kids)
    return None


def without_round(node, copy):
    if spelled(node, "round({0})"):
        return Node(node.kind, "floor({0} + 0.5)", *copy.kids)
    return None


def text_of_dates(node, copy):
    """Times are written as dates are."""
    if spelled(node, "CAST({0} AS VARCHAR)") and node.kids[0].kind in ("time", "local", "span"):
        if node.kids[0].kind == "span":
            return Node("text", "''")
        return Node("text", "CAST(CAST({0} AS DATE) AS VARCHAR)", *copy.kids)
    return None


def plain_text_of_doubles(node, copy):
    if spelled(node, "CAST({0} AS VARCHAR)") and node.kids[0].kind in ("float", "wild"):
        return Node("text", "CAST(({0} > 1.0) AS VARCHAR)", *copy.kids)
    return None


def zone_without_dst(node, copy):
    forms = tuple(form and re.sub(r"'(Europe/Berlin|America/New_York|Australia/Lord_Howe)'", "'Asia/Kolkata'", form) for form in node.spelling)
    return Node(node.kind, forms, *copy.kids) if forms != node.spelling else None


def seconds_of_days(node, copy):
    if spelled(node, "extract(epoch FROM {0})") and node.kids[0].kind == "span":
        return Node("int", "CAST(extract(day FROM {0}) AS BIGINT)", *copy.kids)
    return None


REWRITES = [
    ("spans: the seconds of a year", seconds_of_days),
    ("doubles: -0.0 sorts below 0.0", plus_zero),
    ("doubles: a negative NaN sorts below all", positive_nan),
    ("doubles: their text", plain_text_of_doubles),
    ("round of a double", without_round),
    ("times: their text", text_of_dates),
    ("times: no daylight saving after 2099", zone_without_dst),
]


def by_message(texts, mine, theirs):
    """Reasons that our error names."""
    if not isinstance(mine, Failure):
        return None
    text, message = texts["marigram"], mine.message
    if mine.code in ("22003", "22008") and re.search(r"(?i)(timestamp|bucket|time)\b.* out of range|overflow happened on: -?\d{15,} - -?\d{15,}", message):
        return "times: only from 1677 to 2262"
    if "md5(" in text and "'md5'" in message:
        return "functions: no md5"
    if "occurs twice" in message and re.search(r"ROLLUP|CUBE|GROUPING SETS", text):
        return "grouping sets: a key twice"
    if "Projections require unique expression names" in message and re.search(r"GROUP BY|DISTINCT|RECURSIVE", text):
        return "names: a column beside a cast of it"
    if mine.code == "XX000" and "Physical input schema should be the same" in message and "AS VARCHAR" in text:
        return "distinct: a constant text of an interval"
    return None


def reason(texts, who, found, mine, theirs, query, equal_without):
    """Why an answer differs, or None. `equal_without` asks again."""
    name = by_message(texts, mine, theirs)
    if name:
        return name
    if query.ordered and re.search(r"ROLLUP|CUBE|GROUPING SETS", texts["marigram"]):
        # No row is wrong, only their order: without it, and what it cut, the answers are equal.
        root = Node("query", re.sub(r" LIMIT .*", "", query.root.spelling[0]), *query.root.kids)
        if equal_without(Query(root, query.kinds, False, query.shape), who):
            return "grouping sets: the order of a constant key"
    changed = query
    for name, change in REWRITES:
        one = rebuilt(query, change)
        if one.root.text(0) != query.root.text(0) and equal_without(one, who):
            return name
        changed = rebuilt(changed, change)
    if changed.root.text(0) != query.root.text(0) and equal_without(changed, who):
        return "several of these"
    return None
