"""The rows of a dataset by split, and its label columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from modelmill.artifacts import DatasetRef
from modelmill.datasets.options import LabelKind
from modelmill.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    import pyarrow as pa

Places = npt.NDArray[np.int64]
"""Where rows stand among all rows of a dataset, in the order of their keys, ``(rows,)``."""


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


def label_kind(kind: pa.DataType) -> LabelKind:
    """Return the kind of label that a column holds."""
    import pyarrow as pa

    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return "classes"
    return "number" if pa.types.is_floating(kind) else "class"


def split_places(dataset: DatasetRef, split: str) -> Places:
    """Return where the rows of a split stand.

    :param dataset: the dataset.
    :param split: ``train``, ``validation`` or ``test``.
    :return: ``(rows,)``.
    """
    from modelmill.tables.reading import read_arrow

    return np.flatnonzero(in_split(read_arrow(dataset, columns=[dataset.split]), dataset, split))


def in_split(table: pa.Table, dataset: DatasetRef, split: str) -> npt.NDArray[np.bool_]:
    """Return which rows of a dataset's table are in a split.

    :param table: rows with the split column.
    :param dataset: the dataset.
    :param split: ``train``, ``validation`` or ``test``.
    :return: ``(rows,)``.
    """
    import pyarrow.compute as pc

    inside: npt.NDArray[np.bool_] = pc.equal(table.column(dataset.split), split).fill_null(False).to_numpy()
    return inside
