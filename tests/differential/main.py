"""Runs seeds: each is one query, asked of a layout of ours, of DuckDB and of PostgreSQL 15, and compared.

Where DuckDB and PostgreSQL disagree, we follow PostgreSQL. What differs for a known reason is in known.py, each reason
with its words in DIFFERENCES.md; anything else fails the run and is printed with the command that repeats it.
"""

import argparse
import collections
import json
import multiprocessing
import sys
import time

import data
import known
from compare import difference
from engines import Duck, Failure, Marigram, Postgres
from generate import generate

SLICE = 200


class Bench:
    """All databases of one worker."""

    def __init__(self, options):
        self.options = options
        self.layouts = {name: Marigram(options.port, name) for name in data.LAYOUTS}
        self.layouts["one thread"] = Marigram(options.port_one, "hot")
        self.duck = Duck(data.statements(options.data, "duckdb"))
        self.postgres = Postgres(options.postgres) if options.postgres else None

    def judge(self, seed, query=None):
        """What a seed shows: (how, details), how being `equal`, `known: reason` or `different`."""
        query = query or generate(seed)
        texts = query.texts()
        names = sorted(self.layouts)
        first = names[seed % len(names)]
        mine = self.layouts[first].run(texts["marigram"])
        # Planning is what a query costs: one in five goes to a second layout, one in fifty to all.
        asked = names if seed % 50 == 0 else [names[(seed // 5 + seed) % len(names)]] if seed % 5 == 0 else []
        for name in asked:
            if name == first:
                continue
            other = self.layouts[name].run(texts["marigram"])
            found = difference(mine, other, query.kinds, query.ordered)
            if found:
                return self.report(seed, query, texts, f"layouts {first}, {name}", found, mine, other)
        answers = {}
        if self.postgres and texts["postgres"]:
            answers["postgres"] = self.postgres.run(texts["postgres"])
        if texts["duckdb"]:
            answers["duckdb"] = self.duck.run(texts["duckdb"])
        strict = query.shape == "strict"
        found = {
            name: difference(mine, answer, query.kinds, query.ordered, strict and name == "postgres")
            for name, answer in answers.items()
        }
        if not any(found.values()):
            return "equal" if answers else "alone", None
        if "postgres" in found and not found["postgres"]:
            # Nothing is drawn of which it is known that DuckDB alone means something else.
            return self.report(seed, query, texts, "duckdb", f"DuckDB alone: {found['duckdb']}", mine, answers["duckdb"])
        who = "postgres" if "postgres" in found else "duckdb"
        return self.report(seed, query, texts, who, found[who], mine, answers[who])

    def equal(self, query, who):
        """Whether we and another give one answer to a query."""
        texts = query.texts()
        other = self.layouts.get(who.removeprefix("layouts ").split(", ")[-1])
        ours = self.layouts["hot"].run(texts["marigram"])
        theirs = other.run(texts["marigram"]) if other else (self.postgres if who == "postgres" else self.duck).run(texts[who])
        both_fail = isinstance(ours, Failure) and isinstance(theirs, Failure)
        return not both_fail and difference(ours, theirs, query.kinds, query.ordered) is None

    def report(self, seed, query, texts, who, found, mine, theirs):
        reason = known.reason(texts, who, found, mine, theirs, query, self.equal)
        details = (seed, query.shape, who, found, texts["marigram"], texts.get(who) or "", str(mine)[:1500], str(theirs)[:1500])
        return (f"known: {reason}" if reason else "different"), details


bench = None


def begin(options):
    global bench
    bench = Bench(options)


def run(seeds):
    return [(seed, *bench.judge(seed)) for seed in seeds]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--from", dest="first", type=int, default=0)
    parser.add_argument("--count", type=int, default=20000)
    parser.add_argument("--data", type=int, default=1, help="the seed of the rows")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--port-one", type=int, required=True)
    parser.add_argument("--postgres", help="how to reach PostgreSQL 15; without it only DuckDB is asked")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--show", type=int, default=20)
    parser.add_argument("--examples", help="a file for all that differs, excused or not, a line of JSON each")
    options = parser.parse_args()
    began, counts, shown = time.monotonic(), collections.Counter(), 0
    seeds = range(options.first, options.first + options.count)
    slices = [seeds[at : at + SLICE] for at in range(0, len(seeds), SLICE)]
    excused = open(options.examples, "w") if options.examples else None
    with multiprocessing.get_context("spawn").Pool(options.workers, begin, (options,)) as pool:
        for part in pool.imap_unordered(run, slices):
            for seed, how, details in part:
                counts[how] += 1
                if how == "different":
                    shown += 1
                    if shown <= options.show:
                        print(f"seed {seed}", *details[1:], sep="\n  ", flush=True)
                        print(f"  repeat: tests/differential/run.sh --from {seed} --count 1 --data {options.data}")
                if details and excused:
                    print(json.dumps([how, *details]), file=excused, flush=True)
    for how, count in counts.most_common():
        print(f"{count:8} {how}")
    print(f"points: {sum(counts.values())}, {counts['different']} differences, {time.monotonic() - began:.0f} s")
    if counts["different"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
