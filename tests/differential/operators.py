"""What expressions are made of: operators, functions, casts and literals, each with its types and its three spellings.

Types: `int`, `float`, `text`, `bool`, `time` (an instant), `local` (a time without zone), `date`, `span` (an interval);
`big`, `u` and `wild` are integers at the ends of i64, u64, and doubles of any size with NaN, ±Inf and −0, which are
compared and sorted but not added; `approx` is a double whose last bits may differ, so nothing is computed of it.
A spelling is one text for all, or marigram's, DuckDB's and PostgreSQL's; None where a database has no such thing.
"""

from collections import defaultdict, namedtuple

Operator = namedtuple("Operator", "result arguments spelling weight")

OPERATORS = defaultdict(list)


def op(result, arguments, *spelling, weight=2):
    spelling = spelling if len(spelling) == 3 else spelling * 3
    OPERATORS[result].append(Operator(result, tuple(arguments.split()), spelling, weight))


COMPARED = ["int", "float", "text", "time", "bool", "big", "u", "wild"]
for kind in COMPARED:
    for sign in ["=", "<>", "<", "<=", ">", ">="]:
        op("bool", f"{kind} {kind}", f"({{0}} {sign} {{1}})", weight={"int": 4, "float": 3, "text": 4, "time": 4}.get(kind, 1))
    op("bool", kind, "({0} IS NULL)", weight=1)
    op("bool", kind, "({0} IS NOT NULL)", weight=1)
    op("bool", f"{kind} {kind}", "({0} IS DISTINCT FROM {1})", weight=1)
    op("bool", f"{kind} {kind}", "({0} IS NOT DISTINCT FROM {1})", weight=1)
    op("bool", f"{kind} {kind} {kind}", "({0} BETWEEN {1} AND {2})", weight=1)
    op("bool", f"{kind} {kind} {kind}", "({0} NOT BETWEEN {1} AND {2})", weight=1)
    op("bool", f"{kind} {kind} {kind}", "({0} IN ({1}, {2}))", weight=2)
    op("bool", f"{kind} {kind} {kind}", "({0} NOT IN ({1}, {2}))", weight=1)
for kind in [*COMPARED, "local", "date", "span"]:
    op(kind, f"bool {kind} {kind}", "CASE WHEN {0} THEN {1} ELSE {2} END")
    op(kind, f"bool {kind} bool {kind}", "CASE WHEN {0} THEN {1} WHEN {2} THEN {3} END", weight=1)
    op(kind, f"{kind} {kind}", "coalesce({0}, {1})")
    op(kind, f"{kind} {kind}", "nullif({0}, {1})", weight=1)
for kind in ["int", "float", "text", "time", "big", "u", "wild"]:
    op(kind, f"{kind} {kind}", "greatest({0}, {1})", weight=1)
    op(kind, f"{kind} {kind}", "least({0}, {1})", weight=1)
    op("int", f"{kind} {kind} {kind}", "CASE {0} WHEN {1} THEN 1 WHEN {2} THEN 2 ELSE 0 END", weight=1)

op("bool", "bool bool", "({0} AND {1})", weight=8)
op("bool", "bool bool", "({0} OR {1})", weight=8)
op("bool", "bool", "(NOT {0})", weight=4)
for words in ["IS TRUE", "IS NOT TRUE", "IS FALSE", "IS NOT FALSE"]:
    op("bool", "bool", f"({{0}} {words})", weight=1)
op("bool", "bool", "({0} IS UNKNOWN)", "({0} IS NULL)", "({0} IS UNKNOWN)", weight=1)
op("bool", "int", "CAST({0} AS BOOLEAN)", "CAST({0} AS BOOLEAN)", "CAST({0} AS INTEGER)::boolean", weight=1)

# Numbers. A divisor that may be 0 is for queries that compare errors.
for sign in "+-*":
    op("int", "int int", f"({{0}} {sign} {{1}})", weight=4)
    op("float", "float float", f"({{0}} {sign} {{1}})", weight=4)
    op("float", "float int", f"({{0}} {sign} {{1}})", weight=1)
op("int", "int int", "({0} / nullif({1}, 0))", "({0} // nullif({1}, 0))", "({0} / nullif({1}, 0))")
op("int", "int int", "({0} % nullif({1}, 0))")
op("float", "float float", "({0} / nullif({1}, 0))")
op("float", "float int", "({0} / nullif({1}, 0))", weight=1)
op("int", "int", "(- {0})")
op("float", "float", "(- {0})")
op("wild", "wild", "(- {0})", weight=1)
op("wild", "wild", "abs({0})", weight=1)
op("int", "int", "abs({0})", weight=1)
op("float", "float", "abs({0})", weight=1)
op("float", "float", "floor({0})", weight=1)
op("float", "float", "ceil({0})", weight=1)
op("float", "float", "trunc({0})", weight=1)
op("float", "float", "round({0})", None, "round({0})", weight=1)
op("float", "float", "sign({0})", None, "sign({0})", weight=1)
op("int", "int int", "({0} & {1})", weight=1)
op("int", "int int", "({0} | {1})", weight=1)
op("int", "int int", "({0} # {1})", "xor({0}, {1})", "({0} # {1})", weight=1)
op("int", "int int", "gcd({0}, {1})", weight=1)
op("int", "float", "CAST({0} AS BIGINT)", "CAST(round_even({0}, 0) AS BIGINT)",
   "CAST(CAST({0} AS DOUBLE PRECISION) AS BIGINT)", weight=1)  # fmt: skip
op("float", "int", "CAST({0} AS DOUBLE PRECISION)", weight=1)
op("int", "bool", "CAST({0} AS INTEGER)", "CAST({0} AS INTEGER)", "CAST({0} AS INTEGER)", weight=1)
op("big", "int", "CAST({0} AS BIGINT)", weight=1)
op("u", "int", "CAST(abs({0}) AS BIGINT UNSIGNED)", "CAST(abs({0}) AS UBIGINT)", "CAST(abs({0}) AS NUMERIC(20))", weight=1)
for name in ["sin", "cos", "atan", "exp_", "cbrt"]:
    text = "exp({0} / 100)" if name == "exp_" else f"{name}({{0}})"
    op("approx", "float", text)
op("approx", "float", "sqrt(abs({0}))")
op("approx", "float", "ln(abs({0}) + 1)")
op("approx", "float", "log10(abs({0}) + 1)", "log10(abs({0}) + 1)", "log(abs({0}) + 1)")
op("approx", "float", "power({0}, 2)")
op("approx", "float float", "atan2({0}, {1})")
op("approx", "float", "degrees({0})", weight=1)
op("approx", "float", "radians({0})", weight=1)
op("approx", "float", "{0}")
op("approx", "float small", "round(CAST({0} AS NUMERIC(20, 6)), {1})", None, "round(CAST({0} AS NUMERIC(20, 6)), {1})", weight=1)

# Text.
op("text", "text text", "({0} || {1})", weight=4)
op("text", "text int", "({0} || {1})", weight=1)
for name in ["upper", "lower"]:
    op("text", "text", f"{name}({{0}})")
op("text", "text", "initcap({0})", None, "initcap({0})", weight=1)
op("text", "text", "reverse({0})", weight=1)
op("text", "text", "md5({0})", weight=1)
for name in ["trim", "ltrim", "rtrim"]:
    op("text", "text", f"{name}({{0}})", weight=1)
op("text", "text", "btrim({0}, 'a ')", "trim({0}, 'a ')", "btrim({0}, 'a ')", weight=1)
op("text", "text", "trim(LEADING 'a' FROM {0})", "ltrim({0}, 'a')", "trim(LEADING 'a' FROM {0})", weight=1)
op("text", "text small small", "substr({0}, {1}, abs({2}))", None, "substr({0}, {1}, abs({2}))")
op("text", "text count", "substring({0} FROM {1})", weight=1)
op("text", "text count count", "substring({0} FROM {1} FOR {2})", weight=1)
op("text", "text small", "left({0}, {1})", weight=1)
op("text", "text small", "right({0}, {1})", weight=1)
op("text", "text count", "lpad({0}, {1}, 'xy')", weight=1)
op("text", "text count", "rpad({0}, {1}, 'xy')", weight=1)
op("text", "text count", "repeat({0}, {1})", weight=1)
op("text", "text", "replace({0}, 'a', 'bb')", weight=1)
op("text", "text", "translate({0}, 'ab', 'b')", weight=1)
op("text", "text", "split_part({0}, ' ', 1)", weight=1)
op("text", "text", "split_part({0}, 'a', -1)", weight=1)
op("text", "text text", "concat({0}, '-', {1})", weight=1)
op("text", "text text", "concat_ws(',', {0}, {1})", weight=1)
op("text", "text", "regexp_replace({0}, '[ab]+', 'X')", weight=1)
op("text", "text", "regexp_replace({0}, '[A-Z]', '<\\&>', 'g')", "regexp_replace({0}, '[A-Z]', '<\\0>', 'g')",
   "regexp_replace({0}, '[A-Z]', '<\\&>', 'g')", weight=1)  # fmt: skip
op("text", "text", "regexp_replace({0}, '(.)(.)', '\\2\\1')", weight=1)
op("text", "text", "overlay({0} PLACING 'zz' FROM 2 FOR 1)", None, "overlay({0} PLACING 'zz' FROM 2 FOR 1)", weight=1)
op("text", "int", "CAST({0} AS VARCHAR)", weight=1)
op("text", "bool", "CAST({0} AS VARCHAR)", weight=1)
op("text", "float", "CAST({0} AS VARCHAR)", None, "CAST({0} AS VARCHAR)", weight=1)
op("text", "wild", "CAST({0} AS VARCHAR)", None, "CAST({0} AS VARCHAR)", weight=1)
op("text", "big", "CAST({0} AS VARCHAR)", weight=1)
op("text", "u", "CAST({0} AS VARCHAR)", weight=1)
op("text", "date", "CAST({0} AS VARCHAR)", weight=1)
op("text", "local", "CAST({0} AS VARCHAR)", weight=1)
op("text", "time", "CAST({0} AS VARCHAR)", weight=1)
op("text", "span", "CAST({0} AS VARCHAR)", None, "CAST({0} AS VARCHAR)", weight=1)
op("text", "int", "to_hex({0})", None, "to_hex(CAST({0} AS BIGINT))", weight=1)
op("text", "count", "chr({0} + 64)", weight=1)
for name in ["length", "char_length", "octet_length", "ascii", "bit_length"]:
    duck = {"char_length": "length({0})", "octet_length": "strlen({0})"}.get(name, f"{name}({{0}})")
    op("int", "text", f"{name}({{0}})", duck, f"{name}({{0}})", weight=1)
op("int", "text text", "strpos({0}, {1})", weight=1)
op("int", "text", "position('b' IN {0})", weight=1)
op("bool", "text", "starts_with({0}, 'a')", weight=1)
for pattern in ["a%", "%b", "%\\_%", "_", "%é%", "", "%", "a\\%", "_b%", "A_C"]:
    op("bool", "text", f"({{0}} LIKE '{pattern}')", f"({{0}} LIKE '{pattern}' ESCAPE '\\')", f"({{0}} LIKE '{pattern}')", weight=1)
    op("bool", "text", f"({{0}} NOT LIKE '{pattern}')", f"({{0}} NOT LIKE '{pattern}' ESCAPE '\\')", f"({{0}} NOT LIKE '{pattern}')", weight=1)
    op("bool", "text", f"({{0}} ILIKE '{pattern}')", f"({{0}} ILIKE '{pattern}' ESCAPE '\\')", f"({{0}} ILIKE '{pattern}')", weight=1)
op("bool", "text text", "({0} LIKE ({1} || '%'))", "({0} LIKE ({1} || '%') ESCAPE '\\')", "({0} LIKE ({1} || '%'))", weight=1)
for pattern in ["^a", "b$", "^[a-c]+$", "\\d", "a.b", "^$", "é", "(a|b)c?", "x y"]:
    op("bool", "text", f"({{0}} ~ '{pattern}')", f"regexp_matches({{0}}, '{pattern}')", f"({{0}} ~ '{pattern}')", weight=1)
    op("bool", "text", f"({{0}} !~ '{pattern}')", f"(NOT regexp_matches({{0}}, '{pattern}'))", f"({{0}} !~ '{pattern}')", weight=1)
    op("bool", "text", f"({{0}} ~* '{pattern}')", f"regexp_matches({{0}}, '{pattern}', 'i')", f"({{0}} ~* '{pattern}')", weight=1)
op("bool", "text", "({0} SIMILAR TO '[a-c]+')", "regexp_full_match({0}, '[a-c]+')", "({0} SIMILAR TO '[a-c]+')", weight=1)

# Times.
ZONES = ["Europe/Berlin", "America/New_York", "Asia/Kolkata", "UTC", "Australia/Lord_Howe"]
UNITS = ["second", "minute", "hour", "day", "week", "month", "quarter", "year", "decade", "century", "millennium", "millisecond"]
for unit in UNITS:
    # DuckDB's centuries begin in the year 0 of each hundred.
    text = f"date_trunc('{unit}', {{0}})"
    duck = None if unit in ("century", "millennium") else text
    op("time", "time", text, duck, text, weight=1)
    op("local", "local", text, duck, text, weight=1)
for zone in ZONES:
    op("local", "time", f"({{0}} AT TIME ZONE '{zone}')")
    op("time", "local", f"({{0}} AT TIME ZONE '{zone}')")
    op("time", "time", f"date_trunc('day', {{0}}, '{zone}')", f"(date_trunc('day', {{0}} AT TIME ZONE '{zone}') AT TIME ZONE '{zone}')",
       f"date_trunc('day', {{0}}, '{zone}')", weight=1)  # fmt: skip
    op("time", "time", f"(date_trunc('hour', {{0}} AT TIME ZONE '{zone}') AT TIME ZONE '{zone}')", weight=1)
for part in ["year", "month", "day", "hour", "minute", "dow", "isodow", "doy", "week", "quarter", "isoyear", "decade", "century", "millennium"]:
    op("int", "time", f"CAST(extract({part} FROM {{0}}) AS BIGINT)", weight=1)
    op("int", "local", f"CAST(extract({part} FROM {{0}}) AS BIGINT)", weight=1)
    op("int", "time", f"CAST(date_part('{part}', {{0}}) AS BIGINT)", weight=1)
op("int", "date", "CAST(extract(day FROM {0}) AS BIGINT)", weight=1)
for part in ["epoch", "second", "milliseconds", "microseconds"]:
    duck = None if part in ("milliseconds", "microseconds", "second") else f"extract({part} FROM {{0}})"
    op("approx", "time", f"extract({part} FROM {{0}})", duck, f"extract({part} FROM {{0}})", weight=1)
op("approx", "local", "extract(epoch FROM {0})", weight=1)
op("approx", "span", "extract(epoch FROM {0})", None, "extract(epoch FROM {0})", weight=1)
op("approx", "time time", "extract(epoch FROM ({0} - {1}))", "(epoch_us({0}) - epoch_us({1})) / 1e6", "extract(epoch FROM ({0} - {1}))", weight=2)
for part in ["year", "month", "day", "hour", "minute"]:
    op("int", "span", f"CAST(extract({part} FROM {{0}}) AS BIGINT)", None, f"CAST(extract({part} FROM {{0}}) AS BIGINT)", weight=1)
for sign in "+-":
    op("time", "time span", f"({{0}} {sign} {{1}})")
    op("local", "local span", f"({{0}} {sign} {{1}})", weight=1)
for width in ["15 minutes", "1 hour", "6 hours", "1 day", "7 days", "90 seconds"]:
    op("time", "time", f"date_bin(INTERVAL '{width}', {{0}}, TIMESTAMPTZ '2000-01-01 00:00:00+00')",
       f"time_bucket(INTERVAL '{width}', {{0}}, TIMESTAMPTZ '2000-01-01 00:00:00+00')",
       f"date_bin(INTERVAL '{width}', {{0}}, TIMESTAMPTZ '2000-01-01 00:00:00+00')", weight=1)  # fmt: skip
for width in ["15 minutes", "1 hour", "1 day", "7 days"]:
    op("time", "time", f"time_bucket(INTERVAL '{width}', {{0}})",
       f"time_bucket(INTERVAL '{width}', {{0}}, TIMESTAMPTZ '2000-01-03 00:00:00+00')",
       f"date_bin(INTERVAL '{width}', {{0}}, TIMESTAMPTZ '2000-01-03 00:00:00+00')", weight=2)  # fmt: skip
op("time", "time", "time_bucket(INTERVAL '1 month', {0})", "date_trunc('month', {0})", "date_trunc('month', {0})", weight=1)
op("date", "time", "CAST({0} AS DATE)", weight=1)
op("date", "local", "CAST({0} AS DATE)", weight=1)
op("local", "date", "CAST({0} AS TIMESTAMP)", weight=1)
op("time", "int", "to_timestamp({0} * 3600)", weight=1)
for sign in ["=", "<", ">="]:
    op("bool", "date date", f"({{0}} {sign} {{1}})", weight=1)
    op("bool", "local local", f"({{0}} {sign} {{1}})", weight=1)

# Literals: what is drawn for a type, each with its three spellings.
NAN, INFINITY = ("'NaN'::double precision",) * 3, ("'Infinity'::double precision",) * 3
LITERALS = {
    "int": [str(n) for n in (0, 1, 2, 3, 5, 7, 10, 42, 100)] + ["(-1)", "(-10)"],
    "float": ["0.5", "1.5", "2.25", "0.125", "100.0", "(-0.5)", "3.0", "0.0"],
    "text": ["''", "'a'", "'ab'", "'A'", "'é'", "'b%'", "'x y'", "'ber'", "'h1'", "'10'", "'zz'", "'O''Neil'"],
    "bool": ["true", "false"],
    "big": ["9223372036854775807", "(-9223372036854775807)", "0", "9007199254740993"],
    "u": ["18446744073709551615", "0", "7", "9223372036854775808"],
    "wild": [NAN, INFINITY, ("'-Infinity'::double precision",) * 3, ("'-0'::double precision",) * 3,
             *[(text, f"{text}::double", f"{text}::double precision") for text in ("0.0", "1e300", "0.1")]],
    "small": ["0", "1", "2", "3", "(-1)", "(-2)"],
    "count": ["1", "2", "3", "5", "0"],
    "span": [f"INTERVAL '{text}'" for text in (
        "1 day", "2 hours", "1 month", "90 minutes", "1 year 2 months 3 days", "-1 day", "30 seconds", "1 week", "0.5 hours",
        "1 day 02:03:04.5")],
}  # fmt: skip
MOMENTS = ["2026-03-29 01:30:00", "2026-10-25 01:00:00", "2026-03-08 07:00:00", "2024-02-29 12:00:00", "1970-01-01 00:00:00",
           "1900-01-01 00:00:00", "2026-01-01 00:00:00", "2250-06-30 23:59:59.999999", "1700-02-28 00:00:00"]  # fmt: skip
LITERALS["time"] = [f"TIMESTAMPTZ '{at}+00'" for at in MOMENTS] + [f"TIMESTAMPTZ '{at}+02'" for at in MOMENTS[:2]]
LITERALS["local"] = [f"TIMESTAMP '{at}'" for at in MOMENTS]
LITERALS["date"] = [f"DATE '{at[:10]}'" for at in MOMENTS]
for kind, words in {"int": "BIGINT", "text": "VARCHAR", "float": "DOUBLE PRECISION", "bool": "BOOLEAN", "date": "DATE"}.items():
    LITERALS[kind].append(f"CAST(NULL AS {words})")

# What may fail, asked of a few rows and in nothing else, so that all databases compute the same values: a failure must be one
# everywhere, and PostgreSQL's code is ours.
STRICT = []


def strict(result, arguments, *spelling):
    STRICT.append(Operator(result, tuple(arguments.split()), spelling if len(spelling) == 3 else spelling * 3, 1))


for sign in "+-*":
    strict("big", "big big", f"({{0}} {sign} {{1}})")
    strict("big", "big int", f"({{0}} {sign} {{1}})")
for sign in "/%":
    strict("int", "int int", f"({{0}} {sign} {{1}})", None, f"({{0}} {sign} {{1}})")
strict("big", "big", "(- {0})")
strict("big", "big", "abs({0})")
for target in ["SMALLINT", "INTEGER", "BIGINT"]:
    for kind in ["big", "float", "wild", "text", "u"]:
        # A number with a point is no double to PostgreSQL, and rounds otherwise.
        postgres = f"CAST({{0}}::double precision AS {target})" if kind == "float" else f"CAST({{0}} AS {target})"
        strict("int", kind, f"CAST({{0}} AS {target})", None, postgres)
for kind in ["big", "int", "text"]:
    strict("float", kind, "CAST({0} AS DOUBLE PRECISION)", None, "CAST({0} AS DOUBLE PRECISION)")
strict("bool", "text", "CAST({0} AS BOOLEAN)", None, "CAST({0} AS BOOLEAN)")
strict("date", "text", "CAST({0} AS DATE)", None, "CAST({0} AS DATE)")
strict("local", "text", "CAST({0} AS TIMESTAMP)", None, "CAST({0} AS TIMESTAMP)")
strict("big", "big", "sum({0})", None, "CAST(sum({0}) AS BIGINT)")
strict("text", "int", "repeat('a', CAST({0} AS INTEGER))", None, "repeat('a', CAST({0} AS INTEGER))")
strict("text", "text int", "substr({0}, 1, CAST({1} AS INTEGER))", None, "substr({0}, 1, CAST({1} AS INTEGER))")

# Aggregates: result, arguments (`=` a column), spelling, weight; {f} is where FILTER goes, {and} where its condition does.
AGGREGATES = [
    ("int", "", "count(*){f}", 4), ("int", "any", "count({0}){f}", 3), ("int", "any", "count(DISTINCT {0}){f}", 2),
    ("int", "int", "sum({0}){f}", 4), ("float", "dyadic", "sum({0}){f}", 4), ("int", "int", "sum(DISTINCT {0}){f}", 1),
    ("approx", "int", "avg({0}){f}", 2), ("approx", "dyadic", "avg({0}){f}", 3),
    *[("same", kind, name + "({0}){f}", 2) for kind in ("int", "float", "text", "time", "big", "u", "wild") for name in ("min", "max")],
    ("bool", "bool", "bool_and({0}){f}", 1), ("bool", "bool", "bool_or({0}){f}", 1),
    ("text", "=text", "string_agg({0}, ',' ORDER BY {0}){f}", 1), ("list", "=int", "array_agg({0} ORDER BY {0}){f}", 1),
    ("approx", "dyadic", "stddev({0}){f}", 1), ("approx", "dyadic", "stddev_pop({0}){f}", 1),
    ("approx", "int", "var_pop({0}){f}", 1), ("approx", "dyadic", "var_samp({0}){f}", 1),
    ("approx", "dyadic int", ("corr({0}, {1}){f}", None, "corr({0}, {1}){f}"), 1), ("approx", "dyadic int", "covar_pop({0}, {1}){f}", 1),
    ("approx", "dyadic int", ("regr_slope({0}, {1}){f}", None, "regr_slope({0}, {1}){f}"), 1), ("int", "dyadic int", "regr_count({0}, {1}){f}", 1),
    ("int", "int", "bit_and({0}){f}", 1), ("int", "int", "bit_or({0}){f}", 1), ("int", "int", "bit_xor({0}){f}", 1),
    ("approx", "=float", "percentile_cont(0.25) WITHIN GROUP (ORDER BY {0}){f}", 1),
    ("int", "int", ("median({0}){f}", "median({0}){f}", "percentile_cont(0.5) WITHIN GROUP (ORDER BY {0}){f}"), 0),
    *[("same", f"={kind} =time", (name + "({0}, {1}){f}", None,
       "(array_agg({0} ORDER BY {1}" + down + ", {0}" + down + ") FILTER (WHERE {0} IS NOT NULL AND {1} IS NOT NULL{and}))[1]"), 1)
      for kind in ("int", "text", "float") for name, down in (("first", ""), ("last", " DESC"))],
]  # fmt: skip
