"""A rule set as data: signals, ordered rules over them, and what happens where none of them fires.

A signal is a named value of a row. Conditions read signals by name and nothing else, so a rule set says by
itself what a decision can depend on. See ``docs/rules.md`` for the YAML.
"""

from __future__ import annotations

import hashlib
import json
import string
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, PositiveFloat, model_validator

from modelmill.documents.names import Name

MAX_SIGNALS = 20_000
MAX_RULES = 20_000
MAX_PHRASES = 100_000

Severity = Literal["info", "low", "medium", "high", "critical"]
Decision = Annotated[str, Field(min_length=1, max_length=200)]
ColumnName = Annotated[str, Field(min_length=1, description="Column of the input table.")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Signal(_Part):
    description: str = Field("", description="What the signal says, for people.")


class ColumnSignal(_Signal):
    """A column of the input table."""

    kind: Literal["column"] = "column"
    column: str | None = Field(None, description="Column; empty: the one that has the signal's name.")


class RegexSignal(_Signal):
    """A regular expression on a text column (RE2: linear time, no look-around, no back references)."""

    kind: Literal["regex"] = "regex"
    column: ColumnName
    pattern: str = Field(min_length=1, description="Regular expression; (?i) ignores case.")
    output: Literal["found", "count"] = Field(
        "found", description="Whether it is found anywhere, or how often without overlaps."
    )


class PhrasesSignal(_Signal):
    """Phrases on a text column, any of them."""

    kind: Literal["phrases"] = "phrases"
    column: ColumnName
    phrases: tuple[Annotated[str, Field(min_length=1)], ...] = Field(min_length=1, max_length=MAX_PHRASES)
    ignore_case: bool = True
    whole_words: bool = Field(True, description="A phrase neither begins nor ends inside a word.")
    output: Literal["found", "count"] = Field(
        "found", description="Whether one is found, or how many places begin one."
    )


class SqlSignal(_Signal):
    """An expression over other signals."""

    kind: Literal["sql"] = "sql"
    expression: str = Field(min_length=1, description="SQL over other signals; see the language of rules.")


class MeasuredSignal(_Signal):
    """What deterministic code measures of columns, such as the sharpness of an image."""

    kind: Literal["measured"] = "measured"
    function: str = Field(min_length=1, description="Name of a registered function.")
    columns: tuple[ColumnName, ...] = Field(min_length=1)
    options: dict[str, JsonValue] = {}


class Calibration(_Part):
    """How logits become probabilities."""

    temperature: PositiveFloat = Field(1.0, description="Logits are divided by it before the softmax.")


class Band(_Part):
    """Probabilities that say too little: the signal is unknown there."""

    low: float = Field(ge=0, le=1, description="First probability of the band.")
    high: float = Field(ge=0, le=1, description="First probability above the band.")

    @model_validator(mode="after")
    def _ordered(self) -> Band:
        if self.low >= self.high:
            raise ValueError(f"low is below high: {self.low:g}, {self.high:g}")
        return self


class Doubt(_Part):
    """Where a cheap model cannot tell on which side of a threshold a signal lies."""

    threshold: float = Field(ge=0, le=1, description="What the rules compare the signal with.")
    low: float = Field(ge=0, le=1, description="Below it, the signal is taken to be below the threshold.")
    high: float = Field(
        ge=0, le=1, description="From it on, the signal is taken to be above the threshold; 1: never."
    )

    @model_validator(mode="after")
    def _ordered(self) -> Doubt:
        if self.low > self.high:
            raise ValueError(f"low is not above high: {self.low:g}, {self.high:g}")
        return self


class FirstTier(_Part):
    """A cheap model that answers the rows that it settles; the others the model itself does."""

    model: str = Field(min_length=1, description="A model of the same class, such as a static student.")
    doubts: tuple[Doubt, ...] = Field(
        min_length=1, description="For each threshold of the rules, probabilities that tell nothing."
    )

    @model_validator(mode="after")
    def _ascending(self) -> FirstTier:
        thresholds = [doubt.threshold for doubt in self.doubts]
        if thresholds != sorted(set(thresholds)):
            raise ValueError(f"thresholds ascend, each once: {', '.join(map(str, thresholds))}")
        return self


class ModelSignal(_Signal):
    """What a registered text model says."""

    kind: Literal["model"] = "model"
    column: ColumnName
    model: str = Field(
        min_length=1,
        description="models:/NAME@ALIAS, models:/NAME/VERSION, a folder, or signals:NAME of an earlier step.",
    )
    output: Literal["probability", "label"] = Field(
        "probability", description="Probability of one class, or the most probable class."
    )
    label: str | None = Field(None, description="The class, for its probability.")
    calibration: Calibration = Calibration()
    first: FirstTier | None = Field(
        None, description="A cheap model to ask first; empty: every answer is the model's own."
    )
    abstain: Band | None = Field(
        None, description="Unknown where the probability (for a label: of that label) is in the band."
    )

    @model_validator(mode="after")
    def _one_class(self) -> ModelSignal:
        if (self.label is None) != (self.output == "label"):
            raise ValueError("a probability is that of one class under label; the output label has none")
        if self.first is not None and self.output == "label":
            raise ValueError("a first tier answers with probabilities; leave out first, or name a label")
        return self


Signal = Annotated[
    ColumnSignal | RegexSignal | PhrasesSignal | SqlSignal | MeasuredSignal | ModelSignal,
    Field(discriminator="kind"),
]
"""Any kind of signal."""


def signal_columns(name: str, signal: Signal) -> tuple[str, ...]:
    """Return the columns of the input that a signal reads.

    :param name: the signal.
    :param signal: what it is.
    :return: names of columns; none for what is made of other signals.
    """
    if isinstance(signal, ColumnSignal):
        return (signal.column or name,)
    if isinstance(signal, MeasuredSignal):
        return signal.columns
    return () if isinstance(signal, SqlSignal) else (signal.column,)


class Rule(_Part):
    """One rule: where its condition is true, and no rule before it has decided, it decides."""

    name: Name
    when: str = Field(min_length=1, description="SQL condition over signals, such as spam > 0.9 AND offer.")
    then: Decision = Field(description="The decision, such as remove.")
    severity: Severity = "medium"
    reason: str = Field(
        "", max_length=2000, description="For people; {signal} stands for its value, {signal:.2f} rounds it."
    )

    def reason_parts(self) -> list[tuple[str, str | None, str]]:
        """Take the reason apart.

        :return: text, the signal whose value follows it (None at the end), and the format of the value.
        :raises ValueError: if a bracket is not closed, or a value has a conversion.
        """
        parts: list[tuple[str, str | None, str]] = []
        for text, name, form, conversion in string.Formatter().parse(self.reason):
            if conversion:
                raise ValueError("a value in a reason has a format and no conversion; leave out the '!'")
            parts.append((text, name, form or ""))
        return parts


class RuleSet(_Part):
    """A rule set. The first rule whose condition is true decides; where there is none, ``default`` does."""

    rule_set: Name
    description: str = ""
    input: str | None = Field(
        None, min_length=1, description="Delta table that it decides on; empty: named when it runs."
    )
    key: str = Field(min_length=1, description="Column with the row's key.")
    signals: dict[Name, Signal] = Field(min_length=1, max_length=MAX_SIGNALS)
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

    def columns(self) -> dict[str, list[str]]:
        """Return the columns of the input that are read: the key, and those of the signals.

        :return: the signals that read each of them; none for a column that is the key alone.
        """
        found: dict[str, list[str]] = {self.key: []}
        for name, signal in self.signals.items():
            for column in signal_columns(name, signal):
                found.setdefault(column, []).append(name)
        return found

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON: comments, defaults, descriptions and the order of keys do not count.

        The order of the rules does. The input table is not part of it: the same rules decide on any table.
        """
        canonical = json.dumps(self.canonical(), sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()

    def canonical(self) -> dict[str, Any]:
        """Return what decides, as JSON.

        :return: a mapping.
        """
        content = self.model_dump(mode="json", exclude_defaults=True, exclude={"description", "input"})
        # A field that equals its default is left out, and so would be the one that tells the kinds apart.
        content["signals"] = {
            name: {
                **signal.model_dump(mode="json", exclude_defaults=True, exclude={"description"}),
                "kind": signal.kind,
            }
            for name, signal in self.signals.items()
        }
        return content
