"""Random rule sets on random rows, against DuckDB and against brute force.

``python -m benchmarks.random_rules decisions 5000 20`` checks 5,000 rule sets on 20 rows each: decisions are
those of DuckDB, staged evaluation in a random order gives those of full evaluation, and signals that were not
needed can have any value. The tests run a few of the same cases.
"""

from __future__ import annotations

import argparse
import itertools
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from modelmill.rules.evaluation.compiled_rule_set import compile_rule_set
from modelmill.rules.evaluation.group_calls import CheckedValues
from modelmill.rules.evaluation.rule_program import RuleProgram
from modelmill.rules.evaluation.staged_evaluation import Settlement, settle, settle_fully
from modelmill.rules.explanation.search import ExplanationSearch
from modelmill.rules.rule_set import RuleSet
from modelmill.signals.values import STORED, Kind

QUICK = 0.5
"""Share of the values that a quick look tells, of every second stage."""
KINDS: dict[str, Kind] = {
    **dict.fromkeys("fgh", "boolean"),
    **dict.fromkeys("nm", "integer"),
    **dict.fromkeys("xy", "float"),
    **dict.fromkeys("st", "text"),
}
VALUES: dict[str, list[Any]] = {
    "boolean": [True, False],
    "integer": [-2, -1, 0, 1, 2, 3, 4],
    "float": [-2.5, -1.0, 0.0, 0.5, 1.0, 1.5, 2.0, 3.5],
    "text": ["", "a", "b", "ab", "ba", "B", "c"],
}


class Generator:
    """Makes random expressions. Each is SQL that both sides read alike.

    :param seed: of everything.
    :param simple: whether values are only compared, passed on and tested for NULL, and never computed with.
    """

    def __init__(self, seed: int, *, simple: bool = False) -> None:
        self.random = random.Random(seed)
        self.simple = simple
        self.names: dict[str, list[str]] = {}

    def pick(self, choices: list[Any]) -> Any:
        return self.random.choice(choices)

    def literal(self, kind: str) -> str:
        if self.random.random() < 0.1:
            return "NULL"
        value = self.pick(VALUES[kind])
        if kind == "text":
            return f"'{value}'"
        return f"({value})" if kind != "boolean" else str(value).upper()

    def value(self, kind: str, depth: int) -> str:
        """Return an expression of a kind: a signal, a literal, CASE, COALESCE, NULLIF, arithmetic."""
        if kind == "boolean":
            return self.condition(depth)
        name = self.pick(self.names[kind]) if self.names.get(kind) else self.literal(kind)
        if depth <= 0 or self.random.random() < 0.55:
            return name if self.random.random() < 0.75 else self.literal(kind)
        one, other = self.value(kind, depth - 1), self.value(kind, depth - 1)
        first, second = self.condition(depth - 1), self.condition(depth - 1)
        choices = [
            f"CASE WHEN {first} THEN {one} ELSE {other} END",
            f"CASE WHEN {first} THEN {one} WHEN {second} THEN {other} END",
            f"coalesce({name}, {other})",
            f"nullif({one}, {other})",
        ]
        if not self.simple and kind == "float":
            choices += [f"({one} + {other})", f"({one} * {other})", f"abs({one})"]
        if not self.simple and kind == "text":
            choices += [f"lower({one})", f"({one} || {other})"]
        return self.pick(choices)

    def condition(self, depth: int) -> str:
        """Return a condition."""
        if depth <= 0 or self.random.random() < 0.15:
            if self.names.get("boolean") and self.random.random() < 0.6:
                return self.pick(self.names["boolean"])
            kind = self.pick([kind for kind in self.names if kind != "boolean"] or ["integer"])
            name = self.pick(self.names.get(kind) or [self.literal(kind)])
            return f"({name} {self.pick(['=', '<>', '<', '<=', '>', '>='])} {self.literal(kind)})"
        one, other = self.condition(depth - 1), self.condition(depth - 1)
        kind = self.pick([kind for kind in self.names if kind != "boolean"] or ["integer"])
        a, b, c = (self.value(kind, depth - 1) for _ in range(3))
        negated = self.pick(["", "NOT "])
        choices = [
            f"({one} AND {other})",
            f"({one} OR {other})",
            f"(NOT {one})",
            f"(CASE WHEN {one} THEN {other} ELSE {self.condition(depth - 2)} END)",
            f"(CASE {a} WHEN {b} THEN {one} WHEN {c} THEN {other} END)",
            f"(({one}) IS {self.pick(['NOT ', ''])}{self.pick(['NULL', 'TRUE', 'FALSE'])})",
            f"(({a}) IS {self.pick(['NOT ', ''])}NULL)",
            f"({a} {negated}BETWEEN {b} AND {c})",
            f"({a} {negated}IN ({b}, {self.literal(kind)}, {self.literal(kind)}))",
            f"({a} {negated}IN ({self.literal(kind)}, {self.literal(kind)}))",
            f"({a} {self.pick(['=', '<>', '<', '<=', '>', '>='])} {b})",
            f"({a} IS {self.pick(['NOT ', ''])}DISTINCT FROM {b})",
            f"(coalesce({one}, {other}))",
        ]
        if not self.simple and kind == "text":
            choices += [f"({a} LIKE '{self.pick(['a%', '%b', '_', '%'])}')", f"contains({a}, 'a')"]
        return self.pick(choices)

    def rule_set(self, *, signals: int, rules: int, depth: int) -> RuleSet:
        """Return a random rule set over some of the signals, some of them expressions over others."""
        chosen = self.random.sample(list(KINDS), signals)
        self.names = {}
        for name in chosen:
            self.names.setdefault(KINDS[name], []).append(name)
        parts: dict[str, Any] = {name: {"kind": "column"} for name in chosen}
        if self.random.random() < 0.4:
            kind = self.pick(["boolean", "float"])
            parts["derived"] = {"kind": "sql", "expression": self.value(kind, 2)}
            self.names.setdefault(kind, []).append("derived")
        conditions = [self.condition(self.random.randint(0, depth)) for _ in range(rules)]
        return RuleSet.model_validate(
            {
                "rule_set": "random",
                "key": "id",
                "signals": parts,
                "rules": [
                    {"name": f"r{number}", "when": text, "then": self.pick(["a", "b", "c"])}
                    for number, text in enumerate(conditions)
                ],
                "default": "none",
                "on_unknown": self.pick([None, "review"]),
            }
        )

    def columns(self, rows: int) -> dict[str, pa.Array]:
        """Return values for every signal, a quarter of them NULL."""
        return {
            name: pa.array(
                [None if self.random.random() < 0.25 else self.pick(VALUES[kind]) for _ in range(rows)],
                STORED[kind],
            )
            for name, kind in KINDS.items()
        }


@dataclass
class Case:
    """One rule set and the values of every signal."""

    rule_set: RuleSet
    program: RuleProgram
    columns: dict[str, pa.Array]
    rows: int
    full: np.ndarray[Any, Any]


def make_case(generator: Generator, *, rows: int, signals: int = 6, rules: int = 3, depth: int = 4) -> Case:
    rule_set = generator.rule_set(
        signals=generator.random.randint(2, signals), rules=generator.random.randint(1, rules), depth=depth
    )
    kinds = {name: KINDS[name] for name in rule_set.signals if name in KINDS}
    program = RuleProgram(compile_rule_set(rule_set, kinds))
    columns = generator.columns(rows)
    return Case(rule_set, program, columns, rows, settle_fully(program, columns, rows))


def duck_outcomes(connection: Any, case: Case) -> list[int]:
    """Return what DuckDB says of each row."""
    rules = case.rule_set.rules
    branches = []
    for number, rule in enumerate(rules):
        branches.append(f"WHEN {rule.when} THEN {number}")
        if case.rule_set.on_unknown is not None:
            branches.append(f"WHEN ({rule.when}) IS NULL THEN {len(rules) + 1 + number}")
    derived = case.rule_set.expressions.get("derived")
    extra = f", {derived} AS derived" if derived else ""
    connection.register("given", pa.table({"row": list(range(case.rows)), **case.columns}))
    outcome = f"CASE {' '.join(branches)} ELSE {len(rules)} END"
    found = connection.execute(f"SELECT {outcome} FROM (SELECT *{extra} FROM given) ORDER BY row").fetchall()
    return [row[0] for row in found]


def stage_order(generator: Generator, case: Case) -> list[list[str]]:
    names = list(case.program.compiled.base)
    generator.random.shuffle(names)
    stages: list[list[str]] = []
    while names:
        size = generator.random.choice([1, 1, 1, 2, 3])
        stages.append(names[:size])
        names = names[size:]
    return stages


def staged(case: Case, order: list[list[str]], columns: Mapping[str, pa.Array] | None = None) -> Settlement:
    values = case.columns if columns is None else columns

    told = np.random.default_rng(case.rows).random((len(values), case.rows)) < QUICK
    place = {name: number for number, name in enumerate(values)}

    def ask(names: Any, rows: Any) -> dict[str, CheckedValues]:
        return {name: CheckedValues(values[name].take(pa.array(rows)), {}) for name in names}

    def look(names: Any, rows: Any) -> dict[str, CheckedValues]:
        return {
            name: CheckedValues(known.values, {}, ~told[place[name]][rows])
            for name, known in ask(names, rows).items()
        }

    stages = [(stage, look, ask) if number % 2 else (stage, ask) for number, stage in enumerate(order)]
    return settle(case.program, stages, case.rows)


def scrambled(generator: Generator, case: Case, settlement: Settlement) -> dict[str, pa.Array]:
    """Return the values with every one that was not needed replaced by another."""
    other = generator.columns(case.rows)
    found = {}
    for name, column in case.columns.items():
        needed = settlement.computed.get(name, np.zeros(case.rows, np.bool_))
        mixed = [column[row].as_py() if needed[row] else other[name][row].as_py() for row in range(case.rows)]
        found[name] = pa.array(mixed, column.type)
    return found


def check_decisions(seed: int, *, rule_sets: int, rows: int, log: Any = print) -> dict[str, int]:
    """Check rule sets, and return how many rows differ in which way."""
    import duckdb

    generator = Generator(seed)
    found = {"rows": 0, "duckdb": 0, "staged": 0, "not_needed": 0, "signals_saved": 0, "signals": 0}
    with duckdb.connect() as connection:
        connection.execute("SET threads = 1")
        for _ in range(rule_sets):
            case = make_case(generator, rows=rows)
            theirs = duck_outcomes(connection, case)
            order = stage_order(generator, case)
            settlement = staged(case, order)
            again = settle_fully(case.program, scrambled(generator, case, settlement), rows)
            found["rows"] += rows
            for name, outcomes in (
                ("duckdb", theirs),
                ("staged", settlement.outcomes),
                ("not_needed", again),
            ):
                differing = np.flatnonzero(np.asarray(outcomes) != case.full)
                found[name] += len(differing)
                for row in differing[:1]:
                    log(f"{name}: {case.full[row]} ours, {outcomes[row]}: {case.rule_set.model_dump_json()}")
                    log({key: column[int(row)].as_py() for key, column in case.columns.items()})
            base = case.program.compiled.base
            found["signals"] += len(base) * rows
            found["signals_saved"] += sum(
                rows - int(settlement.computed[name].sum()) if name in settlement.computed else rows
                for name in base
            )
    return found


def spread(kind: str) -> list[Any]:
    """Return values of a kind on both sides of every constant that a random rule has, and NULL."""
    if kind == "boolean":
        return [True, False, None]
    if kind == "integer":
        return [*range(-4, 7), None]
    if kind == "float":
        return [half / 4 for half in range(-14, 19)] + [None]
    return ["", "A", "B", "Ba", "a", "aa", "ab", "abz", "b", "ba", "bz", "c", "d", None]


class Brute:
    """Every assignment of a small rule set, evaluated: what is true of explanations."""

    def __init__(self, case: Case, most: int) -> None:
        self.names = list(case.program.compiled.base)
        self.choices = [spread(KINDS[name]) for name in self.names]
        self.shape = tuple(len(found) for found in self.choices)
        self.feasible = bool(self.names) and int(np.prod(self.shape)) <= most
        if not self.feasible:
            return
        grid = np.indices(self.shape).reshape(len(self.shape), -1)
        columns = {
            name: pa.array(found, STORED[KINDS[name]]).take(pa.array(places))
            for name, found, places in zip(self.names, self.choices, grid, strict=True)
        }
        outcomes = settle_fully(case.program, columns, grid.shape[1])
        decisions = [case.program.compiled.decision(outcome) for outcome in range(int(outcomes.max()) + 1)]
        codes = np.array([sorted(set(decisions)).index(name) for name in decisions])
        self.decisions = codes[outcomes].reshape(self.shape)

    def place(self, values: Mapping[str, Any]) -> tuple[int, ...]:
        return tuple(found.index(values[name]) for name, found in zip(self.names, self.choices, strict=True))

    def settles(self, names: Any, place: tuple[int, ...]) -> bool:
        cut = tuple(at if name in names else slice(None) for name, at in zip(self.names, place, strict=True))
        return bool((self.decisions[cut] == self.decisions[place]).all())

    def smallest(self, place: tuple[int, ...], among: list[str]) -> int:
        for size in range(len(among) + 1):
            if any(self.settles(chosen, place) for chosen in itertools.combinations(among, size)):
                return size
        return len(self.names) + 1

    def fewest_changes(self, place: tuple[int, ...], known: list[str]) -> int | None:
        """Return how many signals must change for one other decision, whatever the unknown ones are."""
        for size in range(1, len(self.names) + 1):
            for chosen in itertools.combinations(self.names, size):
                cut = tuple(
                    slice(None) if name in chosen or name not in known else at
                    for name, at in zip(self.names, place, strict=True)
                )
                free = [name for name in self.names if name in chosen or name not in known]
                other = self.decisions[cut]
                axes = tuple(axis for axis, name in enumerate(free) if name not in chosen)
                low, high = (other.min(axis=axes), other.max(axis=axes)) if axes else (other, other)
                if ((low == high) & (low != self.decisions[place])).any():
                    return size
        return None


def check_explanations(seed: int, *, rule_sets: int, rows: int, log: Any = print) -> dict[str, int]:
    """Check sufficient sets and counterfactuals against every assignment, on settled and on full rows."""
    generator = Generator(seed, simple=True)
    found = dict.fromkeys(
        (
            "cases",
            "skipped",
            "not_proved",
            "insufficient",
            "not_smallest",
            "no_flip",
            "not_nearest",
            "missed",
        ),
        0,
    )
    while found["cases"] < rule_sets * rows:
        case = make_case(generator, rows=rows, signals=5, depth=3)
        brute = Brute(case, 60_000)
        if not brute.feasible:
            found["skipped"] += 1
            continue
        search = ExplanationSearch(case.program)
        settlement = staged(case, stage_order(generator, case))
        for row in range(rows):
            values = {name: case.columns[name][row].as_py() for name in brute.names}
            known = [
                name
                for name in brute.names
                if row % 2 or (name in settlement.computed and settlement.computed[name][row])
            ]
            wrong = _wrong(brute, search.explain({name: values[name] for name in known}), values, known)
            found["cases"] += 1
            for name in wrong:
                found[name] += 1
                if name != "not_proved":
                    log(f"{name}: {values} {known} {case.rule_set.model_dump_json()}")
    return found


def _wrong(brute: Brute, findings: Any, values: Mapping[str, Any], known: list[str]) -> list[str]:
    place = brute.place(values)
    found = [] if findings.minimal else ["not_proved"]
    if not brute.settles(findings.sufficient, place):
        found.append("insufficient")
    elif findings.minimal and brute.smallest(place, known) != len(findings.sufficient):
        found.append("not_smallest")
    fewest = brute.fewest_changes(place, known)
    if fewest is None or fewest > 4:
        return found + (["no_flip"] if findings.changes and fewest is None else [])
    if not findings.changes:
        return [*found, "missed"]
    if len(findings.changes) != fewest:
        found.append("not_nearest")
    return found


CHECKS = {"decisions": check_decisions, "explanations": check_explanations}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("check", choices=CHECKS)
    parser.add_argument("rule_sets", type=int)
    parser.add_argument("rows", type=int)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    began = time.process_time()
    found = CHECKS[given.check](given.seed, rule_sets=given.rule_sets, rows=given.rows)
    print(f"{found}; {time.process_time() - began:.0f} CPU seconds")


if __name__ == "__main__":
    main()
