"""Groups of models of which some have a cheap model that is asked first."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modelmill.models.bundle import BundleInfo
from modelmill.signals.cascade import CascadeEvaluation, CascadeGroup, QuickValues
from modelmill.signals.groups import Rows, SignalValues
from modelmill.signals.joint_models import JointModels, load_models
from modelmill.signals.model_config import FirstTier, ModelSignal
from modelmill.signals.model_groups import (
    ColumnContents,
    ModelEvaluation,
    ModelGroup,
    class_number,
    class_probabilities,
)
from modelmill.signals.pinned_models import PinnedModel
from modelmill.signals.values import STORED


class ModelCascade(ModelGroup, CascadeGroup):
    """Signals of one column that one pass answers, where cheap models do not.

    :param name: of the group.
    :param column: the text column.
    :param signals: the signals.
    :param pins: what each model is, by the name that the rule set has for it.
    """

    def __init__(
        self, name: str, column: str, signals: Mapping[str, ModelSignal], pins: Mapping[str, PinnedModel]
    ) -> None:
        super().__init__(name, column, signals, pins)
        self._first = {one: pins[signal.first.model] for one, signal in signals.items() if signal.first}

    @functools.cached_property
    def first_tier(self) -> list[tuple[JointModels, dict[str, str]]]:
        """The cheap models, and the digest of each signal's bundle among them."""
        shares: dict[str, dict[str, PinnedModel]] = {}
        for name, pin in self._first.items():
            shares.setdefault(_pass_of(pin), {})[name] = pin
        return [
            (load_models(share.values()), {name: pin.digest for name, pin in share.items()})
            for share in shares.values()
        ]

    def begin(self, chunk: pa.RecordBatch) -> CascadeEvaluation:
        """See :meth:`SignalGroup.begin`."""
        return _ModelCascadeEvaluation(self, self.contents(chunk))


class _ModelCascadeEvaluation(ModelEvaluation, CascadeEvaluation):
    _group: ModelCascade

    def __init__(self, group: ModelCascade, contents: ColumnContents) -> None:
        super().__init__(group, contents)
        self._seen_first = np.zeros(len(contents.values), bool)
        self._sure: dict[str, npt.NDArray[np.float64]] = {}
        """What cheap models tell of the rows that they settle; NaN elsewhere, ``(rows,)`` each."""

    def compute(self, names: Sequence[str], rows: Rows) -> dict[str, SignalValues]:
        self._read_first(rows)
        # The whole model reads a row if one of the signals that are asked for needs it.
        needed = np.zeros(len(rows), bool)
        for name in names:
            sure = self._sure.get(name)
            needed |= True if sure is None else np.isnan(sure[rows])
        self._read(rows[needed])
        return {name: self._values(name, rows) for name in names}

    def quick(self, names: Sequence[str], rows: Rows) -> dict[str, QuickValues]:
        self._read_first(rows)
        return {name: self._told(name, rows) for name in names}

    def _read_first(self, rows: Rows) -> None:
        """Ask the cheap models about the rows that have a text and have not been read by them."""
        self._look_at(rows)
        rows = rows[self._has_text[rows] & ~self._seen_first[rows]]
        if not len(rows):
            return
        encoded = self._texts.take(pa.array(rows)).dictionary_encode()
        each, texts = encoded.indices.to_numpy(), encoded.dictionary.to_pylist()
        for models, digests in self._group.first_tier:
            logits = models.logits(texts)
            for name, digest in digests.items():
                signal, info = self._group.configs[name], models.infos[digest]
                found = class_probabilities(info, logits[digest], temperature=1.0)
                p = found[each, class_number(name, signal.label or "", info)]
                if signal.first is not None:
                    p = sure_values(signal.first, p)
                self._sure.setdefault(name, np.full(len(self._texts), np.nan))[rows] = p
        self._seen_first[rows] = True
        # The model itself answers every signal of a row that it reads: what cheap models would get wrong
        # there is nobody's gain.
        left = rows[~self._group.settled_by({name: self._told(name, rows) for name in self._group.configs})]
        for p in self._sure.values():
            p[left] = np.nan

    def _told(self, name: str, rows: Rows) -> QuickValues:
        signal, sure = self._group.configs[name], self._sure.get(name)
        if sure is None:
            kind = self._group.signals[name].kind
            return QuickValues(
                pa.nulls(len(rows), STORED[kind]), self._failures(rows), open=self._has_text[rows]
            )
        unclear = np.isnan(sure[rows])
        values = pa.array(sure[rows], mask=unclear | self._unknown(signal, sure[rows], rows))
        return QuickValues(values, self._failures(rows), open=unclear & self._has_text[rows])

    def _chosen(self, name: str, rows: Rows) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        if name not in self._sure:
            return super()._chosen(name, rows)
        sure = self._sure[name][rows]
        if name not in self._probabilities:  # the cheap model was sure of every row
            return sure, np.zeros(len(rows), np.int64)
        label = self._group.configs[name].label or ""
        column = class_number(name, label, self._group.info(name))
        own = self._probabilities[name][rows, column]
        return np.where(np.isnan(sure), own, sure), np.full(len(rows), column, np.int64)


def _pass_of(pin: PinnedModel) -> str:
    """Return what models have in common that one pass answers."""
    from modelmill.models.static import features_digest

    info = BundleInfo.load(pin.bundle())
    if info.format == "static":
        return features_digest(pin.bundle(), info)
    return info.trunk or pin.digest


def sure_values(first: FirstTier, probability: Any) -> Any:
    """Return what a cheap model tells of a signal.

    :param first: the cheap model, and where it is in doubt.
    :param probability: what it says, ``(rows,)``.
    :return: a value on the side of each threshold that it is sure of, the nearest to its own; NaN where it is
        not sure of one. ``(rows,)``.
    """
    low, high = np.zeros(np.shape(probability)), np.ones(np.shape(probability))
    told = ~np.isnan(probability)
    for doubt in first.doubts:
        above = (probability >= doubt.high) & (doubt.high < 1)
        told &= above | (probability < doubt.low)
        low = np.where(above, np.nextafter(doubt.threshold, 2.0), low)
        high = np.where(above, high, np.minimum(high, np.nextafter(doubt.threshold, -1.0)))
    return np.where(told & (low <= high), np.clip(probability, low, high), np.nan)
