"""What computes signals: the contract between the rules and the evaluators of each kind of signal.

The rules know nothing of patterns and models. They know groups of signals: what is computed together belongs
to one group (all patterns of a text column, all models on one trunk), because a part of the cost is then paid
once per row. For each chunk of rows the engine begins an evaluation of the group and asks it, perhaps several
times, for some of its signals on the rows that are still undecided::

    RuleSet.signals → build_groups → SignalGroup.begin(chunk) → Evaluation.compute(names, rows) → SignalValues
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modelmill.settings import Settings
from modelmill.signals.pinned_models import PinnedModel
from modelmill.signals.values import Kind

Rows = npt.NDArray[np.int64]
"""Numbers of rows of a chunk, ascending, each once."""

Mask = npt.NDArray[np.bool_]
"""Whether something holds, for each row."""

Tier = Literal["explicit", "measured", "model"]
"""What a signal rests on. Where costs say nothing, the plan takes them in this order."""

TIERS: tuple[Tier, ...] = get_args(Tier)

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
class SignalValues:
    """The values of one signal for the rows that were asked for."""

    values: pa.Array
    """One for each row, in their order; of the Arrow type that ``STORED`` has for the signal's kind, or one
    that casts to it. Null is unknown. NaN counts as null."""
    failures: pa.Array | None = None
    """Strings: why a value could not be computed; null elsewhere. None: none failed."""


class Evaluation(ABC):
    """One group's work on one chunk of rows.

    It may keep what it has computed for rows (the trunk's output): the engine may ask for other signals of
    the same rows later.
    """

    @abstractmethod
    def compute(self, names: Sequence[str], rows: Rows) -> Mapping[str, SignalValues]:
        """Compute signals for rows.

        The value for a row must not depend on the other rows. An exception means that the rows as a whole
        could not be computed: the engine then asks for parts of them, down to single rows, and a row that
        fails alone is unknown with the exception's text as the reason (or stops the run: ``on_failure``). An
        exception of modelmill's own, such as ``ModelError``, is about the signals and not about rows: they
        are unknown on all the rows, without further tries; one that a retry may fix ends the run.

        :param names: signals of the group, none of which was asked for on any of these rows.
        :param rows: at least one row of the chunk.
        :return: the values by name.
        """

    def evidence(self, names: Sequence[str], rows: Rows) -> Mapping[str, pa.Array]:
        """Return where the signals were seen, for rows that are explained. By default nothing can be shown.

        :param names: signals of the group that were computed on these rows, without a failure.
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
    """

    def __init__(
        self,
        name: str,
        *,
        tier: Tier,
        signals: Mapping[str, SignalInfo],
        columns: Sequence[str],
    ) -> None:
        self.name = name
        self.tier = tier
        self.signals = dict(signals)
        self.columns = tuple(columns)

    @abstractmethod
    def begin(self, chunk: pa.RecordBatch) -> Evaluation:
        """Begin to work on a chunk. Nothing expensive happens yet: perhaps no row needs the group.

        :param chunk: rows with the columns of the group, among others.
        :return: the evaluation; it lives as long as the chunk.
        """


@dataclass(frozen=True)
class SignalContext:
    """What the groups of signals are made of, besides their configurations."""

    schema: pa.Schema
    """Columns of the input."""
    settings: Settings
    """Where MLflow and the caches are."""
    pins: Mapping[str, PinnedModel] = field(default_factory=dict)
    """Models that have been looked up for the run, by the name that the rule set has for them."""
