"""Labelled rows of sets of classes or of numbers, as reports and gates look at them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelmill.artifacts import DatasetRef
from modelmill.datasets.examples import label_kind
from modelmill.errors import DatasetError, ModelError
from modelmill.evaluation.baselines import number_baselines, set_baselines
from modelmill.evaluation.kinds import KIND_METRICS, Floats, Kind, KindMetric
from modelmill.evaluation.rows import judged_label
from modelmill.models.bundle import BundleInfo

LIKELY = 0.5
"""A class is named if it is more probable than this."""
_BASELINES = {"classes": set_baselines, "number": number_baselines}


@dataclass(frozen=True)
class KindRows:
    """Labelled rows of a split."""

    texts: list[str]
    values: list[Any]
    """Of each row its list of classes, or its number."""
    places: np.ndarray
    """Where they stand among those rows of the split that have a label at all."""


@dataclass(frozen=True)
class KindJudge:
    """What all models are judged by."""

    kind: Kind
    label: str
    classes: tuple[str, ...]
    """All that the test rows or a model have; empty for numbers."""
    rows: KindRows
    truth: Floats
    """``(rows, outputs)``."""

    @property
    def metrics(self) -> tuple[KindMetric, ...]:
        """What is measured; the first decides."""
        return KIND_METRICS[self.kind]

    def table(self, values: Sequence[Any]) -> Floats:
        """Return labels as a table.

        :param values: of each row its list of classes, or its number.
        :return: 1 for each class, or the number, ``(rows, outputs)``.
        """
        if self.kind == "number":
            return np.array(values, dtype=np.float64).reshape(-1, 1)
        numbers = {name: number for number, name in enumerate(self.classes)}
        table = np.zeros((len(values), len(self.classes)))
        for row, names in enumerate(values):
            table[row, [numbers[name] for name in names if name in numbers]] = 1
        return table

    def answers(self, info: BundleInfo, logits: np.ndarray) -> Floats:
        """Return a model's answers as a table.

        :param info: what its bundle says of itself.
        :param logits: of all rows of the split that have a label, ``(all rows, outputs)``.
        :return: 1 for each class, or the number, ``(rows, outputs)``.
        """
        found = info.probabilities(logits[self.rows.places])
        if self.kind == "number":
            return found.astype(np.float64)
        table = np.zeros((len(found), len(self.classes)))
        table[:, [self.classes.index(name) for name in info.classes]] = found > LIKELY
        return table


def kind_judge(dataset: DatasetRef, infos: Sequence[BundleInfo], label: str | None = None) -> KindJudge:
    """Return what models are judged by: the test rows.

    :param dataset: the dataset.
    :param infos: what the models' bundles say; at least one.
    :param label: label column; None: the one that they learned.
    :return: the rows, and what is measured on them.
    :raises DatasetError: if there are no labelled test rows.
    :raises ModelError: if the models answer with different kinds of labels, or another one than the column's.
    """
    label = judged_label(dataset, infos, label)
    kinds = sorted({info.target for info in infos})
    kind, rows = _read(dataset, "test", label)
    if kinds != [kind] or kind == "class":
        raise ModelError(
            f"models are judged by a label of the kind that they answer with; {label!r} holds {kind}",
            got=", ".join(kinds),
            remedy="choose the label column that they learned, or evaluate models of each kind by themselves",
        )
    if not rows.texts:
        raise DatasetError(
            f"the test split must have rows with a value in {label!r}",
            got=str(dataset),
            remedy="change the dataset's split, or label test rows",
        )
    names = {name for info in infos for name in info.classes}
    if kind == "classes":
        names |= {name for value in rows.values for name in value}
    judge = KindJudge(kind, label, tuple(sorted(names)), rows, np.zeros((0, 0)))
    return KindJudge(kind, label, judge.classes, rows, judge.table(rows.values))


def _read(dataset: DatasetRef, split: str, label: str) -> tuple[Any, KindRows]:
    """Return the kind of label that a column holds, and the rows of a split that have one."""
    import pyarrow.compute as pc

    from modelmill.tables.reading import read_arrow

    table = read_arrow(dataset, columns=[dataset.text_column, label, dataset.split])
    table = table.filter(pc.equal(table.column(dataset.split), split))
    table = table.filter(table.column(label).is_valid())
    kind, values = label_kind(table.column(label).type), table.column(label).to_pylist()
    usable = [kind != "number" or np.isfinite(value) for value in values]
    texts = table.column(dataset.text_column).to_pylist()
    places = np.flatnonzero(usable)
    if kind == "classes":
        values = [[str(name) for name in value if name is not None] for value in values]
    return kind, KindRows([texts[place] for place in places], [values[place] for place in places], places)


def kind_baselines(judge: KindJudge, dataset: DatasetRef) -> dict[str, Floats]:
    """Fit the baselines on the train and validation rows, and answer the test rows.

    :param judge: what models are judged by.
    :param dataset: the dataset.
    :return: answers by name of the baseline, ``(rows, outputs)``.
    :raises DatasetError: if there are no labelled train or validation rows.
    """
    parts = [_read(dataset, split, judge.label)[1] for split in ("train", "validation")]
    texts = [text for part in parts for text in part.texts]
    values = [value for part in parts for value in part.values]
    if not texts:
        raise DatasetError(
            "baselines need labelled train or validation rows",
            got=str(dataset),
            remedy="change the dataset's split, or set baselines: false",
        )
    return _BASELINES[judge.kind](texts, judge.table(values), judge.rows.texts)
