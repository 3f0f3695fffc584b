"""Whether two answers to one query are equal: by value, and in order only where the query fixes the order."""

import math
from decimal import Decimal

from engines import Failure, Span, Time

# What `approx` allows: functions of the C library differ in the last bits, and PostgreSQL's sums are not exact.
RELATIVE, ABSOLUTE = 1e-9, 1e-9


def plain(value):
    """One form for what is equal: numbers of all kinds by value, spans by months, days and the rest."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() and not value.is_nan() else float(value)
    if isinstance(value, float):
        if math.isnan(value):
            return "NaN"
        return int(value) if value.is_integer() and abs(value) < 1e300 else value
    if isinstance(value, list):
        return tuple(map(plain, value))
    if isinstance(value, Span):
        return Span(value.months, value.days, value.ns)
    return value


def order_key(value):
    """Any fixed order over values of one column, with doubles last in it, so that nearly equal ones stay neighbours."""
    if value is None:
        return (3, 0)
    if isinstance(value, bool):
        return (0, int(value))
    if isinstance(value, (int, float)):
        return (0, value)
    if isinstance(value, Time):
        return (0, value.ns)
    if isinstance(value, str):
        return (1, value)
    return (2, repr(value))


def near(mine, theirs):
    if isinstance(mine, (int, float)) and isinstance(theirs, (int, float)) and not isinstance(mine, bool) and not isinstance(theirs, bool):
        return mine == theirs or math.isclose(mine, theirs, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
    return same(mine, theirs)


def same(mine, theirs):
    return mine == theirs and isinstance(mine, bool) == isinstance(theirs, bool)


def difference(mine, theirs, kinds, ordered, strict=False):
    """What differs, in words, or None. Two failures are equal, if they need not have one code (`strict`)."""
    if isinstance(mine, Failure) or isinstance(theirs, Failure):
        if isinstance(mine, Failure) and isinstance(theirs, Failure):
            same_code = not strict or mine.code == theirs.code or mine.code == "XXXXX"
            return None if same_code else f"we fail with {mine.code}, they with {theirs.code}"
        return "only we fail" if isinstance(mine, Failure) else "only they fail"
    if len(mine.rows) != len(theirs.rows):
        return f"{len(mine.rows)} rows, not {len(theirs.rows)}"
    rows, others = ([tuple(map(plain, row)) for row in answer.rows] for answer in (mine, theirs))
    if rows == others and len(kinds) == 0:
        return None
    if not ordered:
        at = sorted(range(len(kinds)), key=lambda column: kinds[column] == "approx")
        rows.sort(key=lambda row: [order_key(row[column]) for column in at])
        others.sort(key=lambda row: [order_key(row[column]) for column in at])
    for number, (row, other) in enumerate(zip(rows, others)):
        for kind, value, wanted in zip(kinds, row, other):
            if not (near if kind in ("approx", "float") else same)(value, wanted):
                return f"row {number}: {value!r}, not {wanted!r}"
    return None
