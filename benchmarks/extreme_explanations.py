"""Explanations of random rule sets with extreme values, against brute force.

``python -m benchmarks.extreme_explanations 100000`` makes so many rule sets over whole numbers around 2^53
and 2^63, infinities, subnormal numbers, the first and the last dates, empty texts and one of a megabyte. Each
decides and explains a few rows as an engine does. Checked is that nothing is raised; that the sufficient set
settles the row and is the smallest, for every value of a grid with both neighbours of every constant; that
the changes lead to the other decision, are the fewest, and of one signal the nearest; and with arithmetic and
functions of texts that values of the other signals change nothing. The tests run a few of the same cases.
"""

from __future__ import annotations

import argparse
import itertools
import math
import random
import time
import traceback
from collections import Counter
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa

from modelmill.rules.engine import Engine
from modelmill.rules.evaluation.rule_program import RuleProgram
from modelmill.rules.evaluation.staged_evaluation import settle_fully
from modelmill.rules.explanation.explainer import VALUE_FIELDS
from modelmill.rules.rule_set import RuleSet
from modelmill.signals.values import STORED

KINDS: dict[str, Any] = {
    **dict.fromkeys("fg", "boolean"),
    **dict.fromkeys("nm", "integer"),
    **dict.fromkeys("xy", "float"),
    **dict.fromkeys("st", "text"),
    **dict.fromkeys("de", "time"),
}
_DENSE, _END = 2**53, 2**63
_TICK = timedelta(microseconds=1)
FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
_INTEGERS = [0, 1, -1, 7, _DENSE - 1, _DENSE, _DENSE + 1, -_DENSE - 1, 2**60, 1712345678901234567, _END - 1]
_FLOATS = [0.0, 1.0, -1.0, 0.5, 5e-324, -5e-324, 2.2250738585072014e-308, float(_DENSE), float(_END)]
_FLOATS += [1e19, -1e19, 1.7976931348623157e308, -1.7976931348623157e308]
LONG = "a" * 1_000_000
CONSTANTS: dict[str, list[Any]] = {
    "boolean": [True, False],
    "integer": _INTEGERS,
    "float": _FLOATS,
    "text": ["", "a", "b", "ab", "\U0010ffff", "\0"],
    "time": [FIRST, LAST, datetime(1970, 1, 1, tzinfo=UTC), datetime(2026, 11, 28, tzinfo=UTC)],
}
VALUES: dict[str, list[Any]] = {
    **CONSTANTS,
    "integer": [*_INTEGERS, -_END, -_END + 1, _END - 2],
    "float": [*_FLOATS, math.inf, -math.inf, -0.0, 3.5],
    "text": [*CONSTANTS["text"], LONG, "zzz"],
}


def spread(kind: str) -> list[Any]:
    """Return every value of a kind beside its neighbours, and NULL."""
    found: set[Any] = set(VALUES[kind])
    if kind == "integer":
        found = {
            near
            for one in [*found, *(int(one) for one in _FLOATS if abs(one) < _END)]
            for near in _whole(one)
        }
    if kind == "float":
        found |= {float(one) for one in VALUES["integer"]}
        found = {
            near
            for one in found
            for near in (one, math.nextafter(one, math.inf), math.nextafter(one, -math.inf))
        }
    if kind == "time":
        found |= {one + _TICK for one in found if one != LAST} | {
            one - _TICK for one in found if one != FIRST
        }
    if kind == "text":
        found |= {one + end for one in found if len(one) < 9 for end in ("a", " ", "\0", "aa")}
    return [*sorted(found), None]


def _whole(value: int) -> list[int]:
    """Return integers around one, and around the ends of those that are the same double."""
    ends = {value + step * place for step in (1, 64, 128, 512, 1024) for place in (-1, 0, 1)}
    ends |= {end + place for end in ends for place in (-1, 1)}
    return [one for one in ends if -_END <= one < _END]


def literal(value: Any) -> str:
    if isinstance(value, datetime):
        return f"TIMESTAMP '{value.replace(tzinfo=None).isoformat(sep=' ')}'"
    if isinstance(value, str):
        return f"'{value}'"
    return str(value).upper() if isinstance(value, bool) else f"({value!r})"


class Generator:
    """Makes random conditions.

    :param seed: of everything.
    :param simple: whether values are only compared, passed on and tested for NULL.
    """

    def __init__(self, seed: int, *, simple: bool) -> None:
        self.random = random.Random(seed)
        self.simple = simple
        self.names: dict[str, list[str]] = {}

    def value(self, kind: str, depth: int) -> str:
        pick = self.random.choice
        name = pick(self.names[kind]) if kind in self.names else literal(pick(CONSTANTS[kind]))
        if depth <= 0 or self.random.random() < 0.5:
            return name
        one, other = self.value(kind, depth - 1), pick([literal(pick(CONSTANTS[kind])), name])
        choices = [
            f"coalesce({one}, {other})",
            f"nullif({one}, {other})",
            f"CASE WHEN {self.condition(depth - 1)} THEN {one} ELSE {other} END",
        ]
        if not self.simple and kind in ("integer", "float"):
            choices += [
                f"({one} % 100)",
                f"({one} * {other})",
                f"({one} - {other})",
                f"(-{one})",
                f"({one} / {other})",
            ]
            choices += [f"floor({one})", f"abs({one})"]
            choices = [f"{choice}" for choice in choices]
        if not self.simple and kind == "text":
            choices += [f"lower({one})", f"({one} || {other})", f"trim({one})"]
        return pick(choices)

    def condition(self, depth: int) -> str:
        pick = self.random.choice
        kinds = list(self.names)
        if depth > 0 and self.random.random() < 0.5:
            one, other = self.condition(depth - 1), self.condition(depth - 1)
            return pick([f"({one} AND {other})", f"({one} OR {other})", f"(NOT {one})", f"(({one}) IS NULL)"])
        kind = pick(kinds)
        if kind == "boolean":
            return pick(self.names[kind])
        one = self.value(kind, depth - 1)
        other = kind
        if kind in ("integer", "float") and self.random.random() < 0.4:
            other = pick(["integer", "float"])
        right = pick([self.value(other, depth - 1), literal(pick(CONSTANTS[other]))])
        members = ", ".join(literal(pick(CONSTANTS[other])) for _ in range(self.random.randint(1, 3)))
        negated = pick(["", "NOT "])
        choices = [
            *[f"({one} {operator} {right})" for operator in ("=", "<>", "<", "<=", ">", ">=")],
            f"({one} {negated}IN ({members}))",
            f"({one} {negated}BETWEEN {literal(pick(CONSTANTS[kind]))} AND {right})",
            f"({one} IS {negated}NULL)",
            f"({one} IS {negated}DISTINCT FROM {right})",
        ]
        if not self.simple and kind == "text":
            choices += [f"contains({one}, 'a')", f"(length({one}) > 3)", f"({one} LIKE 'a%')"]
        return pick(choices)

    def rule_set(self) -> RuleSet:
        names = self.random.sample(list(KINDS), self.random.randint(1, 3))
        self.names = {}
        for name in names:
            self.names.setdefault(KINDS[name], []).append(name)
        rules = [
            {"name": f"r{number}", "when": self.condition(2), "then": self.random.choice(["a", "b", "c"])}
            for number in range(self.random.randint(1, 3))
        ]
        return RuleSet.model_validate(
            {
                "rule_set": "extreme",
                "key": "id",
                "signals": {name: {"kind": "column"} for name in names},
                "rules": rules,
                "default": "none",
                "on_unknown": self.random.choice([None, "review"]),
            }
        )


def rows_of(generator: Generator, rows: int) -> pa.RecordBatch:
    columns = {
        name: pa.array(
            [
                None if generator.random.random() < 0.15 else generator.random.choice(VALUES[kind])
                for _ in range(rows)
            ],
            STORED[kind],
        )
        for name, kind in KINDS.items()
    }
    return pa.RecordBatch.from_pydict({"id": list(range(rows)), **columns})


class Decider:
    """Decides on rows of values of the signals that a rule set reads."""

    def __init__(self, program: RuleProgram) -> None:
        self.program = program
        self.names = list(program.compiled.base)

    def __call__(self, columns: dict[str, pa.Array], count: int) -> list[str]:
        outcomes = settle_fully(self.program, columns, count)
        return [self.program.compiled.decision(outcome) for outcome in outcomes.tolist()]

    def grid(self, choices: dict[str, list[Any]]) -> list[str]:
        """Return the decisions of every combination, the last signal fastest."""
        sizes = [len(choices[name]) for name in self.names]
        at = np.indices(sizes).reshape(len(sizes), -1)
        columns = {
            name: pa.array(choices[name], STORED[KINDS[name]]).take(pa.array(places))
            for name, places in zip(self.names, at, strict=True)
        }
        return self(columns, at.shape[1])


def wrong(
    decider: Decider, row: dict[str, Any], *, exact: bool, most: int, generator: Generator
) -> list[str]:
    """Return what is wrong with the explanation of one decided row."""
    values = {name: row["values"][name] for name in decider.names}
    explanation, decision = row["explanation"], row["decision"]
    sufficient = {one["signal"] for one in explanation["signals"] if one["sufficient"]}
    known = {one["signal"] for one in explanation["signals"]}
    changed = {one["signal"]: one[VALUE_FIELDS[KINDS[one["signal"]]]] for one in explanation["changes"]}
    grids = {name: spread(KINDS[name]) for name in decider.names}
    whole = math.prod(map(len, grids.values())) <= most
    if not whole:
        grids = {name: generator.random.sample(one, min(12, len(one))) for name, one in grids.items()}
    fixed = {name: [one] for name, one in values.items()}
    found = []
    if set(decider.grid(_free(fixed, grids, set(fixed) - sufficient))) != {decision}:
        found.append("insufficient")
    if changed:
        flipped = fixed | {name: [one] for name, one in changed.items()}
        unknown = set(fixed) - known - set(changed)
        other = explanation["other_decision"]
        if other == decision or set(decider.grid(_free(flipped, grids, unknown))) != {other}:
            found.append("no_flip")
    if exact and whole:
        found += [] if explanation["minimal"] else ["not_proved"]
        smaller = (
            chosen for size in range(len(sufficient)) for chosen in itertools.combinations(known, size)
        )
        if any(
            set(decider.grid(_free(fixed, grids, set(fixed) - set(one)))) == {decision} for one in smaller
        ):
            found.append("not_smallest")
        found += _not_nearest(_singles(decider, values, known, grids, decision), values, changed)
    return found


def _free(fixed: dict[str, list[Any]], grids: dict[str, list[Any]], names: set[str]) -> dict[str, list[Any]]:
    return fixed | {name: grids[name] for name in names}


def _not_nearest(
    singles: dict[str, tuple[bool, float]], values: dict[str, Any], changed: dict[str, Any]
) -> list[str]:
    if not singles:
        return []
    if len(changed) != 1:
        return ["not_fewest"]
    ((name, new),) = changed.items()
    return ["not_nearest"] if _apart(values[name], new) > min(singles.values()) else []


def _singles(
    decider: Decider, values: dict[str, Any], known: set[str], grids: dict[str, list[Any]], decision: str
) -> dict[str, tuple[bool, float]]:
    """Return how far each single change is that leads to one other decision; of a signal the nearest."""
    found: dict[str, tuple[bool, float]] = {}
    unknown = [name for name in decider.names if name not in known]
    for name in known:
        choices = {one: grids[one] if one in unknown else [values[one]] for one in decider.names}
        choices[name] = grids[name]
        places = [decider.names.index(name)]
        shape = [len(choices[one]) for one in decider.names]
        decisions = np.array(decider.grid(choices)).reshape(shape)
        flips = []
        for number, new in enumerate(grids[name]):
            there = set(np.take(decisions, number, axis=places[0]).ravel().tolist())
            if len(there) == 1 and decision not in there:
                flips.append(new)
        if flips:
            nearest = min(
                flips, key=lambda new: (new is None, _differs(values[name], new), _apart(values[name], new))
            )
            found[name] = _apart(values[name], nearest)
    return found


def _differs(old: Any, new: Any) -> Any:
    if old is None or new is None or isinstance(old, bool | str):
        return 0
    if isinstance(old, datetime):
        return abs(new - old)
    if not (math.isfinite(old) and math.isfinite(new)):
        return 0 if old == new else math.inf
    return abs(Fraction(new) - Fraction(old))


def _apart(old: Any, new: Any) -> tuple[bool, float]:
    """Return whether a value becomes unknown, and the distance in proportion."""
    if new is None:
        return True, 1.0
    if old is None or isinstance(old, bool | str):
        return False, 1.0
    if isinstance(old, datetime):
        days = abs(new - old) / timedelta(days=1)
        return False, days / (days + 1)
    if not (math.isfinite(old) and math.isfinite(new)):
        return False, 1.0
    if old == new:
        return False, 0.0
    one, other = Fraction(old), Fraction(new)
    # Rounded: the engine measures with a few digits more or less.
    return False, round(float(abs(one - other) / (abs(one) + abs(other))), 15)


def check(seed: int, *, rule_sets: int, rows: int = 4, most: int = 20_000, log: Any = print) -> Counter[str]:
    """Check rule sets, and count what is wrong.

    :param seed: of everything.
    :param rule_sets: number of rule sets; in every second one values are computed with.
    :param rows: rows that each decides on.
    :param most: combinations of values that are tried for one proof.
    :param log: gets each case that is wrong.
    :return: counts, those of cases and of exceptions included.
    """
    found: Counter[str] = Counter(rule_sets=0, rows=0, exceptions=0)
    generators = [Generator(seed, simple=True), Generator(seed + 1, simple=False)]
    for number in range(rule_sets):
        generator = generators[number % 2]
        rule_set, batch = generator.rule_set(), rows_of(generator, rows)
        found["rule_sets"] += 1
        try:
            engine = Engine(rule_set, batch.schema)
            decided = engine.decide(batch, explain=True)
            listed = decided.to_pylist()
        except Exception:
            found["exceptions"] += 1
            log(f"exception: {rule_set.model_dump_json()}\n{traceback.format_exc(limit=-3)}")
            continue
        decider = Decider(engine.program)
        if not decider.names:
            continue
        for place, row in enumerate(listed):
            row["values"] = {name: batch.column(name)[place].as_py() for name in KINDS}
            found["rows"] += 1
            for what in wrong(decider, row, exact=generator.simple, most=most, generator=generator):
                found[what] += 1
                shown = {name: str(row["values"][name])[:40] for name in decider.names}
                rules = [(rule.when, rule.then) for rule in rule_set.rules]
                sets = [one["signal"] for one in row["explanation"]["signals"] if one["sufficient"]]
                if what != "not_proved":
                    log(
                        f"{what}: {rules} {rule_set.on_unknown} {shown} {row['decision']} {sets} "
                        f"{str(row['explanation']['changes'])[:400]} {row['explanation']['other_decision']}"
                    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rule_sets", type=int)
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    began = time.process_time()
    found = check(given.seed, rule_sets=given.rule_sets, rows=given.rows)
    print(f"{dict(found)}; {time.process_time() - began:.0f} CPU seconds")


if __name__ == "__main__":
    main()
