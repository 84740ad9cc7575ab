"""What computes signals: the contract between the engine and the evaluators of each kind of signal.

The engine knows nothing of patterns and models. It knows groups of signals: what is computed together belongs
to one group (all patterns of a text column, all models on one trunk), because a part of the cost is then paid
once per row. For each chunk of rows it begins an evaluation of the group and asks it, perhaps several times,
for some of its signals on the rows that are still open::

    RuleSet.signals → build_groups → SignalGroup.begin(chunk) → Evaluation.compute(names, rows) → Answers

An evaluator is a function that makes groups of all signals of some kinds. It is registered by the type of the
signal's configuration::

    @evaluator(RegexSignal, PhrasesSignal)
    def pattern_groups(signals: Mapping[str, RegexSignal | PhrasesSignal], site: Site) -> list[SignalGroup]:
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modelmill.rules.rule_set import RuleSet
from modelmill.settings import Settings
from modelmill.signals.pins import Pin
from modelmill.signals.values import Kind

Rows = npt.NDArray[np.int64]
"""Numbers of rows of a chunk, ascending, each once."""

Tier = Literal["explicit", "measured", "model"]
"""What a signal rests on. Where costs say nothing, the plan takes them in this order."""

EVIDENCE = pa.list_(
    pa.struct(
        [
            pa.field("column", pa.string()),  # where it is
            pa.field("start", pa.int64()),  # first code point of a span of text; null for others
            pa.field("end", pa.int64()),  # the code point after the last one
            pa.field("text", pa.string()),  # the span, or what was read in an image
            pa.field("time", pa.float64()),  # seconds from the start of a video
            pa.field("box", pa.list_(pa.float32())),  # left, top, right, bottom in pixels
        ]
    )
)
"""Arrow type of the evidence of one signal for one row: places that a person can look at."""


@dataclass(frozen=True)
class SignalInfo:
    """What is known of a signal before any row is read."""

    kind: Kind
    """Kind of its values."""
    version: str = ""
    """What computes it, exactly: a model's registered version, a pattern's digest; empty for a column."""


@dataclass(frozen=True)
class Answers:
    """The values of one signal for the rows that were asked for."""

    values: pa.Array
    """One for each row, in their order; of the Arrow type that ``STORED`` has for the signal's kind, or one
    that casts to it. Null is unknown. NaN counts as null."""
    failures: pa.Array | None = None
    """Strings: why a value could not be computed; null elsewhere. None: none failed."""
    open: npt.NDArray[np.bool_] | None = None
    """Where a quick look does not tell the value. None: it is told everywhere."""


SettledBy = Callable[[Mapping[str, Answers]], npt.NDArray[np.bool_]]
"""Says of which rows the rules need no more than what is told of some signals, whatever all others are."""


def all_told(answers: Mapping[str, Answers]) -> npt.NDArray[np.bool_]:
    """Say of which rows nothing is open: enough without any rules.

    :param answers: by name, at least one.
    :return: a mask.
    """
    told = np.ones(len(next(iter(answers.values())).values), np.bool_)
    for one in answers.values():
        if one.open is not None:
            told &= ~one.open
    return told


class Evaluation(ABC):
    """One group's work on one chunk of rows.

    It may keep what it has computed for rows (the trunk's output): the engine may ask for other signals of
    the same rows later.
    """

    @abstractmethod
    def compute(self, names: Sequence[str], rows: Rows) -> Mapping[str, Answers]:
        """Compute signals for rows.

        The answer for a row must not depend on the other rows. An exception means that the rows as a whole
        could not be computed: the engine then asks for parts of them, down to single rows, and a row that
        fails alone is unknown with the exception's text as the reason (or stops the run: ``on_failure``). An
        exception of modelmill's own, such as ``ModelError``, is about the signals and not about rows: they
        are unknown on all the rows, without further tries; one that a retry may mend ends the run.

        :param names: signals of the group, none of which was asked for on any of these rows.
        :param rows: at least one row of the chunk.
        :return: the answers by name.
        """

    def quick(self, names: Sequence[str], rows: Rows) -> Mapping[str, Answers]:
        """Tell what can be told of signals for little, such as what a cheap model is sure of.

        What is told is what ``compute`` would answer; the rest is left open, and computed where the rules
        still need it. Asked only of a group with ``has_quick``, and before ``compute``.

        :param names: signals of the group, none of which was asked for on any of these rows.
        :param rows: at least one row of the chunk.
        :return: the answers by name, with what is open.
        """
        raise NotImplementedError

    def evidence(self, names: Sequence[str], rows: Rows) -> Mapping[str, pa.Array]:
        """Return where the signals were seen, for rows that are explained. By default nothing can be shown.

        :param names: signals of the group that were computed on these rows.
        :param rows: at least one row of the chunk.
        :return: arrays of type ``EVIDENCE`` by name, one element for each row; a name may be left out.
        """
        del names, rows
        return {}


class SignalGroup(ABC):
    """Signals that are computed together.

    :param name: for plans, such as ``patterns on text`` or ``trunk 3f2a``.
    :param tier: what they rest on.
    :param signals: the signals.
    :param columns: columns of the input that ``begin`` needs.
    :param has_quick: whether a part of the answers can be had for little, see :meth:`Evaluation.quick`.
    """

    def __init__(
        self,
        name: str,
        *,
        tier: Tier,
        signals: Mapping[str, SignalInfo],
        columns: Sequence[str],
        has_quick: bool = False,
    ) -> None:
        self.name = name
        self.tier = tier
        self.signals = dict(signals)
        self.columns = tuple(columns)
        self.has_quick = has_quick
        self.settled_by: SettledBy = all_told
        """Which rows a quick look is enough for. The engine sets it: a row is then settled by quick answers
        alone or by none of them, so that what it gets depends neither on the plan nor on other rows."""

    @abstractmethod
    def begin(self, chunk: pa.RecordBatch) -> Evaluation:
        """Begin to work on a chunk. Nothing expensive happens yet: perhaps no row needs the group.

        :param chunk: rows with the columns of the group, among others.
        :return: the evaluation; it lives as long as the chunk.
        """


@dataclass(frozen=True)
class Site:
    """What an evaluator may use to make its groups."""

    schema: pa.Schema
    """Columns of the input."""
    settings: Settings
    """Where MLflow and the caches are."""
    rule_set: RuleSet
    pins: Mapping[str, Pin] = field(default_factory=dict)
    """Models that have been looked up for the run, by the name that the rule set has for them."""


Evaluator = Callable[[Mapping[str, Any], Site], Sequence[SignalGroup]]
"""Makes the groups of all signals of its kinds, each signal in one group. Raises ``SignalError`` for what the
rule set says wrongly: a column that does not exist or has no text, a bad pattern. What may fail without a
fault of the rule set, such as a model version that has disappeared, fails in ``Evaluation.compute``: there
``on_failure`` says what becomes of it."""

_EVALUATORS: dict[type, Evaluator] = {}
_OWN_MODULES: tuple[str, ...] = (
    "modelmill.signals.column",
    "modelmill.signals.explicit",
    "modelmill.signals.measured",
    "modelmill.signals.models",
)
"""Modules that register evaluators when they are imported."""


def evaluator(*kinds: type) -> Callable[[Evaluator], Evaluator]:
    """Register the function below as what makes the groups of some kinds of signal.

    :param *kinds: types of the signals' configuration.
    :return: a decorator.
    """

    def register(function: Evaluator) -> Evaluator:
        for kind in kinds:
            _EVALUATORS[kind] = function
        return function

    return register


def build_groups(signals: Mapping[str, Any], site: Site) -> list[SignalGroup]:
    """Make the groups of signals.

    :param signals: configurations by name; those of kind ``sql`` are the engine's own, and not among them.
    :param site: what there is to make them of.
    :return: the groups, in the order of the evaluators.
    :raises SignalError: if a group cannot be made; the first such group is named.
    """
    for module in _OWN_MODULES:
        import_module(module)
    shares: dict[Evaluator, dict[str, Any]] = {}
    for name, signal in signals.items():
        shares.setdefault(_EVALUATORS[type(signal)], {})[name] = signal
    return [group for function, share in shares.items() for group in function(share, site)]
