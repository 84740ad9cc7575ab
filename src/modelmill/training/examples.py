"""The rows of a dataset as a training sees them: texts, and the number of each row's class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from modelmill.artifacts import DatasetRef
from modelmill.errors import ConfigError, DatasetError, did_you_mean, shorten

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Rows:
    """Labelled rows of one split, in the order of their keys."""

    texts: list[str]
    targets: npt.NDArray[np.int64]
    """Number of each row's class, ``(rows,)``."""

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class LabelledData:
    """What there is to learn for one label."""

    label: str
    classes: tuple[str, ...]
    """The labels of the train split, sorted."""
    train: Rows
    validation: Rows
    """Empty if the dataset has no validation split."""


def choose_label(dataset: DatasetRef, label: str | None) -> str:
    """Return the label column to work with.

    :param dataset: the dataset.
    :param label: what the configuration says; None: the dataset's only one.
    :return: name of the column.
    :raises ConfigError: if it is unknown, or there are several and none was chosen.
    """
    if label is None and len(dataset.labels) == 1:
        return dataset.labels[0]
    if label in dataset.labels:
        return str(label)
    if label is None:
        raise ConfigError(
            f"label must name one of the dataset's label columns: {', '.join(dataset.labels)}",
            remedy=f"add config: {{label: {dataset.labels[0]}}}",
        )
    raise ConfigError(
        "label must name a label column of the dataset",
        got=label,
        remedy=did_you_mean(label, dataset.labels),
    )


def read_labelled(dataset: DatasetRef, *, label: str | None) -> LabelledData:
    """Read the train and validation splits of a dataset; rows without a label are left out.

    :param dataset: the dataset.
    :param label: label column; None: the dataset's only one.
    :return: the rows.
    :raises ConfigError: if the label column is unknown.
    :raises DatasetError: if the train split has no rows or one class, or validation has an unknown class.
    """
    from modelmill.data.tables import read_arrow

    name = choose_label(dataset, label)
    table = read_arrow(dataset, columns=[dataset.key, dataset.text, name, dataset.split])
    table = table.filter(table.column(name).is_valid())
    train_labels = _split(table, dataset, "train").column(name).to_pylist()
    classes = tuple(sorted({str(value) for value in train_labels}))
    if not classes:
        raise DatasetError(
            "the train split must have labelled rows",
            got=str(dataset),
            remedy="see the dataset's quarantine table, or change the split",
        )
    if len(classes) == 1:
        raise DatasetError(
            f"label column {name!r} must have at least two classes in the train split",
            got=classes[0],
            remedy="add rows of another class, or choose another label column",
        )
    return LabelledData(
        label=name,
        classes=classes,
        train=_rows(_split(table, dataset, "train"), dataset, name, classes),
        validation=_rows(_split(table, dataset, "validation"), dataset, name, classes),
    )


def read_texts(dataset: DatasetRef, *, split: str, limit: int | None = None) -> list[str]:
    """Read the texts of a split, in the order of their keys.

    :param dataset: the dataset.
    :param split: ``train``, ``validation`` or ``test``.
    :param limit: number of rows at most; None: all.
    :return: the texts.
    """
    from modelmill.data.tables import read_arrow

    table = read_arrow(dataset, columns=[dataset.key, dataset.text, dataset.split])
    texts: list[str] = _split(table, dataset, split).column(dataset.text).to_pylist()
    return texts if limit is None else texts[:limit]


def _split(table: pa.Table, dataset: DatasetRef, split: str) -> pa.Table:
    import pyarrow.compute as pc

    return table.filter(pc.equal(table.column(dataset.split), split))


def _rows(table: pa.Table, dataset: DatasetRef, label: str, classes: Sequence[str]) -> Rows:
    numbers = {name: index for index, name in enumerate(classes)}
    labels = [str(value) for value in table.column(label).to_pylist()]
    unknown = sorted(set(labels) - set(numbers))
    if unknown:
        raise DatasetError(
            f"a class of {label!r} outside the train split must also stand in it; unknown: "
            f"{shorten(', '.join(unknown))}",
            remedy="add train rows of that class, or take those rows out",
        )
    return Rows(
        table.column(dataset.text).to_pylist(), np.array([numbers[name] for name in labels], np.int64)
    )
