"""Random rule sets with extreme values: decisions and explanations against brute force.

``nice -n 15 python -m benchmarks.extreme 100000 --seed 1 --processes 2`` makes so many rule sets of every
operator and function of the language (:mod:`benchmarks.extreme_language`). Each decides on four rows and
explains them, as an engine does. Checked is that nothing is raised; that a decision is the one of Python
functions; that the sufficient set settles the row and is the smallest, for all values of a grid that has the
neighbours of every constant; that the changes lead to the other decision, are the fewest, and of one signal
the nearest. Where values are computed with, the smallest and the nearest are not promised. Of each grid some
points are also decided by the Python functions. The answer does not depend on the number of processes. The
tests run a few of the same cases.
"""

from __future__ import annotations

import argparse
import itertools
import math
import multiprocessing
import subprocess
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
from benchmarks.extreme_language import Generator, Part
from benchmarks.extreme_values import COLUMNS, LONG, TEXTS, TIMES, WHOLE, Column, as_signal, known

from modelmill.rules.engine import Engine
from modelmill.rules.evaluation.rule_program import RuleProgram
from modelmill.rules.evaluation.staged_evaluation import settle_fully
from modelmill.rules.explanation.explainer import VALUE_FIELDS
from modelmill.rules.rule_set import RuleSet
from modelmill.signals.values import STORED

CHUNK = 100
"""Rule sets that have one seed, and are checked by one process."""
ROWS = 4
MOST = 30_000
"""Combinations of values that are tried for one proof."""
_TICK = timedelta(microseconds=1)
_LOW, _END = -(2**63), 2**63


@dataclass
class Case:
    """A rule set, and the same rules as Python functions."""

    rule_set: RuleSet
    conditions: list[Part]

    def decision(self, row: dict[str, Any]) -> str:
        """Return what is decided on a row, by the Python functions."""
        for rule, condition in zip(self.rule_set.rules, self.conditions, strict=True):
            value = condition.value(row)
            if value is True:
                return rule.then
            if value is None and self.rule_set.on_unknown is not None:
                return self.rule_set.on_unknown
        return self.rule_set.default


def some_case(make: Generator) -> Case:
    """Make a rule set over at most three columns, sometimes with a signal that is an expression."""
    names = make.choose(3)
    signals: dict[str, Any] = {name: {"kind": "column"} for name in names}
    if make.random.random() < 0.2:
        derived = make.part(make.random.choice(["boolean", "integer", "float", "text", "time"]), 2)
        if derived.kind != "null":
            signals["z"] = {"kind": "sql", "expression": derived.sql}
            make.name(Part("z", derived.kind, derived.value))
    conditions = [make.condition(2) for _ in range(make.random.randint(1, 3))]
    reason = " ".join(f"{{{name}}}" for name in signals)
    content = {
        "rule_set": "extreme",
        "key": "id",
        "signals": signals,
        "rules": [
            {"name": f"r{number}", "when": one.sql, "then": make.random.choice("abc"), "reason": reason}
            for number, one in enumerate(conditions)
        ],
        "default": "none",
        "on_unknown": make.random.choice([None, "review"]),
    }
    return Case(RuleSet.model_validate(content), conditions)


def spread(kind: str) -> list[Any]:
    """Return every value of a kind beside its neighbours, and NULL."""
    found = {value for column in COLUMNS.values() if column.kind == kind for value in _values(column)}
    if kind == "integer":
        doubles = [int(one) for one in _values(COLUMNS["x"]) if abs(one) < _END]
        found = {near for one in [*found, *doubles] for near in _whole(one)}
    elif kind == "float":
        base = found | {float(one) for one in WHOLE}
        found = {
            near
            for one in base
            for near in (one, math.nextafter(one, math.inf), math.nextafter(one, -math.inf))
        }
    elif kind == "time":
        found |= {one + _TICK for one in found if one != max(TIMES)}
        found |= {one - _TICK for one in found if one != min(TIMES)}
    elif kind == "text":
        found = {one + end for one in TEXTS for end in ("", "a", " ", "\0", "aa")} | {LONG, "zzz"}
    elif kind != "boolean":
        return [{"bytes": b"\0", "texts": ["x"]}[kind], None]
    return [*sorted(found), None]


def _values(column: Column) -> list[Any]:
    """Return the values of a column that the language knows."""
    if column.kind not in ("boolean", "integer", "float", "time"):
        return []
    return [one for value in column.values if (one := as_signal(value)) is not None]


def _whole(value: int) -> list[int]:
    """Return integers around one, and around the ends of those that are the same double."""
    ends = {value + step * place for step in (1, 64, 128, 512, 1024) for place in (-1, 0, 1)}
    ends |= {end + place for end in ends for place in (-1, 1)}
    return [one for one in ends if _LOW <= one < _END]


SPREAD = {kind: spread(kind) for kind in {column.kind for column in COLUMNS.values()}}


class Grid:
    """The decisions of every combination of some values of the signals that a rule set reads.

    :param program: the rules.
    :param listed: the explained rows. Their values, and those of their changes, are in the grid.
    :param make: draws the other values, where all of them are too many.
    """

    def __init__(self, program: RuleProgram, listed: list[dict[str, Any]], make: Generator) -> None:
        self.names = list(program.compiled.base)
        self.kinds = [COLUMNS[name].kind for name in self.names]
        self.whole = math.prod(len(SPREAD[kind]) for kind in self.kinds) <= MOST
        self.axes = []
        for name, kind in zip(self.names, self.kinds, strict=True):
            axis = [one for one in SPREAD[kind] if one is not LONG]
            if not self.whole:
                axis = make.random.sample(axis, min(14, len(axis)))
            alike = [other for other in self.names if COLUMNS[other].kind == kind]
            needed = [row["values"][other] for row in listed for other in alike]
            needed += [_new(one) for row in listed for one in _changes(row) if one["signal"] == name]
            axis += [one for one in needed if kind in _KNOWN and one not in axis]
            self.axes.append(list(dict.fromkeys(axis)) if kind in _KNOWN else SPREAD[kind])
        sizes = [len(axis) for axis in self.axes]
        at = np.indices(sizes).reshape(len(sizes), -1)
        columns = {
            name: pa.array(axis, STORED[kind]).take(pa.array(places))
            for name, kind, axis, places in zip(self.names, self.kinds, self.axes, at, strict=True)
        }
        outcomes = settle_fully(program, columns, at.shape[1])
        kinds, where = np.unique(outcomes, return_inverse=True)
        named = [program.compiled.decision(outcome) for outcome in kinds.tolist()]
        self.decisions = list(dict.fromkeys(named))
        codes = np.array([self.decisions.index(name) for name in named])
        self.codes = codes[where].reshape(sizes)

    def place(self, values: dict[str, Any]) -> dict[str, int]:
        """Return where values stand on the axes."""
        return {
            name: axis.index(values[name]) if kind in _KNOWN else int(values[name] is None)
            for name, kind, axis in zip(self.names, self.kinds, self.axes, strict=True)
            if name in values
        }

    def reached(self, place: dict[str, int]) -> set[str]:
        """Return the decisions that are possible where some signals have the values at a place."""
        cut = tuple(place.get(name, slice(None)) for name in self.names)
        return {self.decisions[code] for code in np.unique(self.codes[cut]).tolist()}

    def single_changes(self, place: dict[str, int], name: str, told: set[str]) -> list[Any]:
        """Return the values of a signal with which all that is possible is one other decision."""
        cut = tuple(place[one] if one in told and one != name else slice(None) for one in self.names)
        free = [one for one in self.names if one == name or one not in told]
        found = np.moveaxis(self.codes[cut], free.index(name), 0).reshape(
            len(self.axes[self.names.index(name)]), -1
        )
        own = self.codes[tuple(place[one] for one in self.names)]
        flips = (found == found[:, :1]).all(1) & (found[:, 0] != own)
        return [self.axes[self.names.index(name)][at] for at in np.flatnonzero(flips).tolist()]

    def points(self, count: int, make: Generator) -> list[tuple[dict[str, Any], str]]:
        """Return some combinations of values, each with its decision."""
        found = []
        for _ in range(count):
            at = tuple(make.random.randrange(size) for size in self.codes.shape)
            values = {name: axis[one] for name, axis, one in zip(self.names, self.axes, at, strict=True)}
            found.append((values, self.decisions[self.codes[at]]))
        return found


_KNOWN = frozenset(VALUE_FIELDS)
"""Kinds whose values rules can tell apart."""


def _changes(row: dict[str, Any]) -> list[dict[str, Any]]:
    return list(row["explanation"]["changes"])


def _new(change: dict[str, Any]) -> Any:
    kind = COLUMNS[change["signal"]].kind
    if kind in _KNOWN:
        return change[VALUE_FIELDS[kind]]
    return SPREAD[kind][0] if change["new"] == "not NULL" else None


def wrong(case: Case, grid: Grid, row: dict[str, Any], make: Generator) -> list[str]:
    """Return what is wrong with one decided and explained row."""
    values = {name: row["values"][name] for name in grid.names}
    explanation, decision, place = row["explanation"], row["decision"], grid.place(values)
    found = [] if decision == case.decision(row["values"]) else ["wrong_decision"]
    sufficient = {one["signal"] for one in explanation["signals"] if one["sufficient"]}
    told = {one["signal"] for one in explanation["signals"]}
    if grid.reached({name: place[name] for name in sufficient}) != {decision}:
        found.append("insufficient")
    for point, ours in grid.points(2, make):
        if case.decision(dict.fromkeys(COLUMNS) | point) != ours:
            found.append("wrong_decision")
    changed = {one["signal"]: _new(one) for one in _changes(row)}
    if changed:
        other = explanation["other_decision"]
        flipped = {name: place[name] for name in told} | grid.place(changed)
        if other == decision or grid.reached(flipped) != {other}:
            found.append("no_flip")
        if case.decision(row["values"] | changed) != other:
            found.append("no_flip_in_python")
    if make.simple and grid.whole:
        found += _not_best(grid, row, values, changed)
    return found


def _not_best(grid: Grid, row: dict[str, Any], values: dict[str, Any], changed: dict[str, Any]) -> list[str]:
    """Return what is wrong where the smallest set and the nearest change are promised."""
    explanation, place = row["explanation"], grid.place(values)
    told = [one["signal"] for one in explanation["signals"]]
    sufficient = [one for one in explanation["signals"] if one["sufficient"]]
    found = [] if explanation["minimal"] else ["not_proved"]
    smaller = (chosen for size in range(len(sufficient)) for chosen in itertools.combinations(told, size))
    if explanation["minimal"] and any(
        grid.reached({name: place[name] for name in one}) == {row["decision"]} for one in smaller
    ):
        found.append("not_smallest")
    singles = {}
    for name in told:
        flips, old = grid.single_changes(place, name, set(told)), values[name]
        if flips:
            nearest = min(flips, key=lambda new: (new is None, _differs(old, new), _apart(old, new)))
            singles[name] = _apart(old, nearest)
    return found + _not_nearest(singles, values, changed)


def _not_nearest(
    singles: dict[str, tuple[bool, float]], values: dict[str, Any], changed: dict[str, Any]
) -> list[str]:
    if not singles:
        return []
    if len(changed) != 1:
        return ["not_fewest"]
    ((name, new),) = changed.items()
    return ["not_nearest"] if _apart(values[name], new) > min(singles.values()) else []


def _differs(old: Any, new: Any) -> Any:
    if old is None or new is None or not isinstance(old, int | float | datetime):
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
    if old is None or isinstance(old, bool) or not isinstance(old, int | float | datetime):
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


def check(seed: int, chunks: Sequence[int], *, rule_sets: int = CHUNK, log: Any = print) -> Counter[str]:
    """Check rule sets, and count what is wrong.

    :param seed: of everything.
    :param chunks: numbers of the parts to check; each has a seed of its own.
    :param rule_sets: number of rule sets of each part; in every second one values are computed with.
    :param log: gets each case that is wrong.
    :return: counts, those of cases and of exceptions included.
    """
    found: Counter[str] = Counter(rule_sets=0, rows=0, exceptions=0)
    for chunk in chunks:
        for number in range(rule_sets):
            make = Generator(f"{seed}/{chunk}/{number}", simple=number % 2 == 0)
            for what, details in _checked(make, found):
                found[what] += 1
                if what != "not_proved":
                    log(f"{what} in {seed}/{chunk}/{number}: {details}")
    return found


def _checked(make: Generator, found: Counter[str]) -> list[tuple[str, str]]:
    """Check one rule set, and return what is wrong."""
    case, batch, problems = some_case(make), make.rows(ROWS), []
    content = case.rule_set.model_dump_json(exclude_defaults=True)
    found["rule_sets"] += 1
    try:
        engine = Engine(case.rule_set, batch.schema)
        decided = engine.decide(batch, explain=True)
        alone = engine.decide(batch)
        listed = decided.to_pylist()
        for place, row in enumerate(listed):
            row["values"] = known(batch, place)
        grid = Grid(engine.program, listed, make) if engine.compiled.base else None
        for place, row in enumerate(listed):
            found["rows"] += 1
            shown = {name: str(row["values"][name])[:40] for name in engine.compiled.base}
            if row["decision"] != alone.column("decision")[place].as_py():
                problems.append(("wrong_decision", f"alone: {content} {shown}"))
            if grid is None:
                same = row["decision"] == case.decision(row["values"])
                problems += [] if same else [("wrong_decision", f"{content} {row['decision']}")]
                continue
            for what in wrong(case, grid, row, make):
                sets = [one["signal"] for one in row["explanation"]["signals"] if one["sufficient"]]
                other = row["explanation"]["other_decision"]
                said = f"{row['decision']} {sets} {other} {str(row['explanation']['changes'])[:300]}"
                problems.append((what, f"{content} {shown} {said}"))
    except Exception:  # none is right
        problems.append(("exceptions", f"{content}\n{traceback.format_exc(limit=-3)}"))
    return problems


def _begin() -> None:
    """Take memory from the C library: Arrow's own pool asks the system anew for each text of 1 MB."""
    pa.set_memory_pool(pa.system_memory_pool())


def _one(task: tuple[int, int, int]) -> Counter[str]:
    seed, chunk, size = task
    return check(seed, [chunk], rule_sets=size, log=lambda text: print(text[:2_000], flush=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rule_sets", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument(
        "--first", type=int, default=0, help=f"first part, of {CHUNK} rule sets, to go on from"
    )
    given = parser.parse_args()
    parts = range(given.first, -(-given.rule_sets // CHUNK))
    tasks = [(given.seed, part, min(CHUNK, given.rule_sets - part * CHUNK)) for part in parts]
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    print(f"commit {commit.stdout.strip()}, seed {given.seed}, parts from {given.first}", flush=True)
    began, found = time.monotonic(), Counter[str]()
    with multiprocessing.get_context("spawn").Pool(given.processes, initializer=_begin) as pool:
        for number, one in enumerate(pool.imap(_one, tasks), start=1):
            found.update(one)
            if number % 20 == 0 or number == len(tasks):
                took = time.monotonic() - began
                print(f"{given.first + number} parts, {took:.0f} s: {dict(found)}", flush=True)


if __name__ == "__main__":
    main()
