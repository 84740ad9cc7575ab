"""Compiles the conditions of a rule set, checked against its signals, to one program."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from sqlglot import exp

from modelmill.documents.parsing import Path, ShownFinding
from modelmill.errors import Problem, RuleSetError, did_you_mean, excerpt
from modelmill.rules.language.expressions import compile_tree
from modelmill.rules.language.names import Names, Typed
from modelmill.rules.language.parsing import Mistake, parse
from modelmill.rules.language.program import Result, Step, Steps, reached
from modelmill.rules.rule_set import RuleSet
from modelmill.signals.values import OPAQUE, STORED, Kind

OPEN = -1
"""Outcome of a row that is not settled.

The other outcomes of a rule set with n rules are: i < n, rule i fires; n, no rule fires
(:attr:`CompiledRuleSet.no_rule`); n + 1 + i, the condition of rule i is NULL and ``on_unknown`` decides.
"""


@dataclass(frozen=True)
class CompiledRuleSet:
    """A rule set as a program over its base signals: those that are not expressions over other signals."""

    rule_set: RuleSet
    kinds: Mapping[str, Kind]
    """Kind of every signal, including those of kind ``sql``."""
    steps: tuple[Step, ...]
    roots: tuple[int, ...]
    """Step with the condition of each rule."""
    derived: Mapping[str, int]
    """Step with the value of each ``sql`` signal."""
    base: tuple[str, ...]
    """The base signals that a rule reads, in the order of the rule set. No others are ever computed."""

    @functools.cached_property
    def digest(self) -> str:
        """The rule set's digest."""
        return self.rule_set.digest

    @property
    def no_rule(self) -> int:
        """The outcome of a row on which no rule fires."""
        return len(self.roots)

    def decision(self, outcome: int) -> str:
        """Return the decision of an outcome."""
        if outcome < self.no_rule:
            return self.rule_set.rules[outcome].then
        if outcome == self.no_rule or self.rule_set.on_unknown is None:
            return self.rule_set.default
        return self.rule_set.on_unknown

    def rule_of(self, outcome: int) -> int | None:
        """Return the number of the rule that led to an outcome; None if no rule fired."""
        if outcome == self.no_rule:
            return None
        return outcome if outcome < self.no_rule else outcome - self.no_rule - 1


def compile_rule_set(rule_set: RuleSet, kinds: Mapping[str, Kind]) -> CompiledRuleSet:
    """Check a rule set's conditions, and compile them to one program.

    :param rule_set: the rule set.
    :param kinds: kind of every base signal.
    :return: the program.
    :raises RuleSetError: if there are mistakes; all of them are listed.
    """
    compilation = _Compilation(rule_set, kinds)
    compilation.run()
    if compilation.mistakes:
        problems = [
            Problem(0, 0, ".".join(map(str, path)), message, shown)
            for path, message, shown in compilation.mistakes
        ]
        raise RuleSetError(problems, source=f"rule set {rule_set.rule_set}")
    steps = tuple(compilation.steps.steps)
    live = {steps[number].column for number in reached(steps, compilation.roots)}
    return CompiledRuleSet(
        rule_set=rule_set,
        kinds=compilation.kinds,
        steps=steps,
        roots=tuple(compilation.roots),
        derived={name: typed.step for name, typed in compilation.computed.items()},
        base=tuple(name for name in rule_set.signals if name in live),
    )


def rule_set_mistakes(rule_set: RuleSet, kinds: Mapping[str, Kind]) -> list[ShownFinding]:
    """Return all mistakes in a rule set's expressions and reasons.

    :param rule_set: the rule set.
    :param kinds: kinds of the base signals, as far as they are known. In an expression that reads a signal of
        unknown kind, only names and syntax are checked.
    :return: for each mistake its path in the rule set, a message, and the line with a caret.
    """
    compilation = _Compilation(rule_set, kinds)
    compilation.run()
    return compilation.mistakes


class _Compilation:
    def __init__(self, rule_set: RuleSet, kinds: Mapping[str, Kind]) -> None:
        self.rule_set = rule_set
        self.expressions = rule_set.expressions
        self.kinds = dict(kinds)
        self.steps = Steps()
        self.mistakes: list[ShownFinding] = []
        self.roots: list[int] = []
        base = [name for name in rule_set.signals if name not in self.expressions]
        self.vague = {name for name in base if name not in kinds}
        """Signals of unknown kind, and the expressions over them."""
        nothing = Typed("null", self.steps.constant(None, "null"))
        self.computed: dict[str, Typed] = dict.fromkeys(self.expressions, nothing)
        schema = pa.schema([(name, STORED[self.kinds.get(name, "null")]) for name in base])
        self.names = Names(schema, noun="signal", computed=self.computed)

    def run(self) -> None:
        trees: dict[str, Any] = {}
        for name, expression in self.expressions.items():
            trees[name] = self._parse(("signals", name, "expression"), expression)
        for name in self._ordered(trees):
            self._derive(name, trees[name])
        for number, rule in enumerate(self.rule_set.rules):
            path = ("rules", number, "when")
            tree = self._parse(path, rule.when)
            result = self._compile(path, rule.when, tree, wanted="boolean")
            self.roots.append(result.step if result else 0)
        self._check_names()
        self._check_reasons()

    def _parse(self, path: Path, text: str) -> Any:
        tree = parse(text)
        if isinstance(tree, Mistake):
            self._add(path, text, tree)
            return None
        return tree

    def _add(self, path: Path, text: str, mistake: Mistake) -> None:
        line, column = mistake.position(text)
        self.mistakes.append((path, f"{line}:{column}: {mistake.message}", excerpt(text, line, column)))

    def _compile(self, path: Path, text: str, tree: Any, *, wanted: Kind | None) -> Result | None:
        if tree is None:
            return None
        vague = any(name in self.vague for name in _names_in(tree))
        # Without the kind of a signal only its name can be checked.
        compiled = compile_tree(tree, self.names, self.steps, wanted=None if vague else wanted)
        if isinstance(compiled, Result):
            return None if vague else compiled
        for mistake in compiled:
            if not vague or mistake.unknown_name:
                self._add(path, text, mistake)
        return None

    def _ordered(self, trees: Mapping[str, Any]) -> Iterator[str]:
        """Yield the expressions in topological order (A. Kahn, 1962): each after those that it reads."""
        needs = {name: set(_names_in(tree)) & set(trees) for name, tree in trees.items()}
        while ready := [name for name, below in needs.items() if not below]:
            yield from ready
            for name in ready:
                del needs[name]
            for below in needs.values():
                below.difference_update(ready)
        if needs:
            shown = ", ".join(sorted(needs))
            first = min(needs)
            message = f"signals must not be made of each other in a circle; got {shown}; remove one reference"
            self.mistakes.append((("signals", first, "expression"), message, ""))
        self.vague.update(needs)

    def _derive(self, name: str, tree: Any) -> None:
        text = self.expressions[name]
        result = self._compile(("signals", name, "expression"), text, tree, wanted=None)
        if result is None:
            self.vague.add(name)
        else:
            self.computed[name] = Typed(result.kind, result.step)
            self.kinds[name] = result.kind

    def _check_names(self) -> None:
        seen: set[str] = set()
        for number, rule in enumerate(self.rule_set.rules):
            if rule.name in seen:
                message = f"a rule's name stands once; got {rule.name!r}; rename one of them"
                self.mistakes.append((("rules", number, "name"), message, ""))
            seen.add(rule.name)

    def _check_reasons(self) -> None:
        for number, rule in enumerate(self.rule_set.rules):
            for message in _reason_problems(rule.reason_parts, self.kinds, self.rule_set):
                self.mistakes.append((("rules", number, "reason"), message, ""))


def _reason_problems(parts: Any, kinds: Mapping[str, Kind], rule_set: RuleSet) -> Iterator[str]:
    try:
        found = parts()
    except ValueError as error:
        yield f"a reason must be text with signals in curly brackets; {error}; write {{{{ for a bracket"
        return
    for _, name, form in found:
        if name is None:
            continue
        if name not in rule_set.signals:
            yield f"a reason names signals; got {name!r}; {did_you_mean(name, rule_set.signals)}"
            continue
        if any(int(size) > _WIDEST for size in re.findall(r"\d+", form)):
            yield f"a value's format makes at most {_WIDEST} characters or digits; got {form[:40]!r}"
            continue
        try:
            for example in _EXAMPLES.get(kinds.get(name, "null"), ()):
                format(example, form)
        except ValueError as error:
            yield f"a value's format must fit the signal {name!r}; got {form!r} ({error})"


_WIDEST = 100
_EXAMPLES: Mapping[Kind, tuple[Any, ...]] = {
    "integer": (1,),
    "float": (0.5,),
    "text": ("x",),
    **dict.fromkeys(OPAQUE, ("x",)),
}


def _names_in(tree: Any) -> Iterator[str]:
    return (
        (str(column.name).lower() for column in tree.find_all(exp.Column)) if tree is not None else iter(())
    )
