"""The rows of a dataset as a training sees them: their places, and the number of each row's class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from modelmill.artifacts import DatasetRef
from modelmill.data.tokens import Places
from modelmill.errors import ConfigError, DatasetError, did_you_mean, shorten

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Rows:
    """Labelled rows of one split, in the order of their keys."""

    places: Places
    """Where each row stands among all rows of the dataset in the order of their keys, ``(rows,)``."""
    targets: npt.NDArray[np.int64]
    """Number of each row's class, ``(rows,)``."""

    def __len__(self) -> int:
        return len(self.places)


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
    :raises ConfigError: if the label column is unknown, or holds numbers or lists.
    :raises DatasetError: if the train split has no rows or one class, or validation has an unknown class.
    """
    import pyarrow as pa

    from modelmill.data.tables import read_arrow

    name = choose_label(dataset, label)
    table = read_arrow(dataset, columns=[name, dataset.split])
    kind = table.schema.field(name).type
    if pa.types.is_nested(kind) or pa.types.is_floating(kind):
        raise ConfigError(
            "a classifier learns a label of kind class: one class a row",
            got=f"{name}: {kind}",
            remedy="choose another label column, or set label_kinds in build_dataset",
        )
    encoded = table.column(name).combine_chunks().dictionary_encode()
    names = [str(value) for value in encoded.dictionary.to_pylist()]
    # Of each row the number of its label among all names; -1 without a label.
    codes = encoded.indices.fill_null(-1).to_numpy()
    labelled = codes >= 0
    train = _places(table, dataset, "train", labelled)
    classes = tuple(sorted({names[code] for code in np.unique(codes[train])}))
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
    validation = _places(table, dataset, "validation", labelled)
    unknown = sorted({names[code] for code in np.unique(codes[validation])} - set(classes))
    if unknown:
        raise DatasetError(
            f"a class of {name!r} outside the train split must also stand in it; unknown: "
            f"{shorten(', '.join(unknown))}",
            remedy="add train rows of that class, or take those rows out",
        )
    numbers = {found: number for number, found in enumerate(classes)}
    targets = np.array([numbers.get(found, -1) for found in names], dtype=np.int64)
    return LabelledData(
        label=name,
        classes=classes,
        train=Rows(train, targets[codes[train]]),
        validation=Rows(validation, targets[codes[validation]]),
    )


def split_places(dataset: DatasetRef, split: str) -> Places:
    """Return where the rows of a split stand among all rows of the dataset, in the order of their keys.

    :param dataset: the dataset.
    :param split: ``train``, ``validation`` or ``test``.
    :return: ``(rows,)``.
    """
    from modelmill.data.tables import read_arrow

    return _places(read_arrow(dataset, columns=[dataset.split]), dataset, split, True)


def _places(table: pa.Table, dataset: DatasetRef, split: str, chosen: npt.NDArray[np.bool_] | bool) -> Places:
    import pyarrow.compute as pc

    inside = pc.equal(table.column(dataset.split), split).fill_null(False)
    return np.flatnonzero(inside.to_numpy() & chosen)
