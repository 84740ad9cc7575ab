"""A rule set as data: signals, ordered rules over them, and the decision if no rule fires.

A signal is a named value of a row. Conditions read nothing but signals, so the rule set alone tells what a
decision can depend on. See ``docs/rules.md`` for the YAML.
"""

from __future__ import annotations

import hashlib
import json
import string
from typing import Annotated, Any, Literal

from pydantic import Field

from modelmill.documents.names import Name
from modelmill.options import Options
from modelmill.signals.registry import AnySignal, kind_of
from modelmill.signals.sql import SqlSignal

MAX_SIGNALS = 20_000
MAX_RULES = 20_000

Severity = Literal["info", "low", "medium", "high", "critical"]
Decision = Annotated[str, Field(min_length=1, max_length=200)]


class Rule(Options):
    """One rule: it decides the rows on which its condition is true and no earlier rule has decided."""

    name: Name
    when: str = Field(min_length=1, description="SQL condition over signals, such as spam > 0.9 AND offer.")
    then: Decision = Field(description="The decision, such as remove.")
    severity: Severity = "medium"
    reason: str = Field(
        "", max_length=2000, description="For people; {signal} stands for its value, {signal:.2f} rounds it."
    )

    def reason_parts(self) -> list[tuple[str, str | None, str]]:
        """Split the reason at the values of signals in it.

        :return: for each part its text, the signal whose value follows (None at the end), and the format of
            that value.
        :raises ValueError: if a bracket is not closed, or a value has a conversion.
        """
        parts: list[tuple[str, str | None, str]] = []
        for text, name, form, conversion in string.Formatter().parse(self.reason):
            if conversion:
                raise ValueError("a value in a reason has a format and no conversion; leave out the '!'")
            parts.append((text, name, form or ""))
        return parts


class Example(Options):
    """A row, and what the rule set is to decide on it: ``modelmill rules validate`` tries it."""

    row: dict[str, Any] = Field({}, description="Values by column; a column that is left out is NULL.")
    signals: dict[Name, Any] = Field(
        {}, description="Values of signals in place of what computes them. Models are not asked: give theirs."
    )
    decision: Decision
    rule: str | None = Field(None, description="The rule that is to decide; empty: any, or none.")


class RuleSet(Options):
    """A rule set. The first rule whose condition is true decides; where there is none, ``default`` does."""

    rule_set: Name
    description: str = ""
    input: str | None = Field(
        None, min_length=1, description="Delta table that it decides on; empty: named when it runs."
    )
    key: str = Field(min_length=1, description="Column with the row's key.")
    signals: dict[Name, AnySignal] = Field(min_length=1, max_length=MAX_SIGNALS)
    rules: tuple[Rule, ...] = Field(min_length=1, max_length=MAX_RULES)
    default: Decision = Field(description="The decision where no rule fires.")
    on_unknown: Decision | None = Field(
        None,
        description="The decision where a rule's condition is NULL and no rule before it fires, such as "
        "review; empty: such a rule does not fire.",
    )
    on_failure: Literal["unknown", "stop"] = Field(
        "unknown", description="A signal that fails on a row is NULL there, or the run stops with its error."
    )

    examples: tuple[Example, ...] = Field((), max_length=10_000, description="Rows with their decision.")

    @property
    def expressions(self) -> dict[str, str]:
        """The signals that are expressions over other signals, by name."""
        return {name: one.expression for name, one in self.signals.items() if isinstance(one, SqlSignal)}

    @property
    def decisions(self) -> frozenset[str]:
        """Every decision that it can make."""
        other = [] if self.on_unknown is None else [self.on_unknown]
        return frozenset([self.default, *other, *(rule.then for rule in self.rules)])

    @property
    def models(self) -> list[str]:
        """Names of the models that the signals ask; a name may be listed several times."""
        return [name for signal in self.signals.values() for name in kind_of(signal).models(signal)]

    def columns(self) -> dict[str, list[str]]:
        """Return the columns of the input that are read, each with the signals that read it.

        :return: signals by column; the key comes first, with no signals if none reads it.
        """
        found: dict[str, list[str]] = {self.key: []}
        for name, signal in self.signals.items():
            for operand in kind_of(signal).operands(name, signal):
                found.setdefault(operand.column, []).append(name)
        return found

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON.

        Comments, defaults, descriptions, examples, the order of keys and the input table do not change it;
        the order of the rules does.
        """
        canonical = json.dumps(self.canonical(), sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()

    def canonical(self) -> dict[str, Any]:
        """Return everything that influences decisions, as JSON."""
        content = self.model_dump(
            mode="json", exclude_defaults=True, exclude={"description", "input", "examples"}
        )
        # A field that equals its default is left out, and so would be the one that tells the kinds apart.
        content["signals"] = {
            name: {
                **signal.model_dump(mode="json", exclude_defaults=True, exclude={"description"}),
                "kind": signal.kind,
            }
            for name, signal in self.signals.items()
        }
        return content
