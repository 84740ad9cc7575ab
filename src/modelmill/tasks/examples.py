"""Rows of a dataset as a training reads them: their splits, their labels, where they stand, their targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from modelmill.artifacts import DatasetRef
from modelmill.datasets.options import LabelKind
from modelmill.errors import ConfigError, DatasetError, InputError
from modelmill.tasks.base import Targets, Task
from modelmill.tasks.kinds import column_task, task_of
from modelmill.tokens.token_ids import Places

if TYPE_CHECKING:
    import pyarrow as pa

_SHOWN = 5
"""Labels that an error shows in full."""


@dataclass(frozen=True)
class Rows:
    """Labelled rows of one split, in the order of their keys."""

    places: Places
    """Where each row stands among all rows of the dataset in the order of their keys, ``(rows,)``."""
    targets: Targets
    """What each row's label says, see the label's task."""

    def __len__(self) -> int:
        return len(self.places)


@dataclass(frozen=True)
class LabelledData:
    """The train and validation rows of one label."""

    label: str
    classes: tuple[str, ...]
    """The classes of the train split, sorted; empty for numbers."""
    train: Rows
    validation: Rows
    """Empty if the dataset has no validation split."""
    target: LabelKind = "class"
    """Kind of label."""

    @property
    def task(self) -> Task:
        """The task of the label."""
        return task_of(self.target)

    @property
    def rows(self) -> int:
        """Number of train and validation rows."""
        return len(self.train) + len(self.validation)

    @property
    def outputs(self) -> int:
        """Number of logits that answer it."""
        return self.task.outputs(self.classes)

    @property
    def units(self) -> tuple[float, float]:
        """Mean and standard deviation of the train rows' numbers; 0 and 1 for classes."""
        return self.task.units(self.train.targets)


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
        choices=dataset.labels,
    )


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


def read_labelled(dataset: DatasetRef, *, label: str | None) -> LabelledData:
    """Read the train and validation splits of a dataset; rows without a label are left out.

    :param dataset: the dataset.
    :param label: label column; None: the dataset's only one.
    :return: the rows.
    :raises ConfigError: if the label column is unknown.
    :raises DatasetError: if the train split has no rows or one class, or validation has an unknown class.
    """
    (found,) = read_all_labelled(dataset, labels=[label])
    return found


def read_all_labelled(dataset: DatasetRef, *, labels: Sequence[str | None]) -> list[LabelledData]:
    """Read several label columns at once.

    :param dataset: the dataset.
    :param labels: label columns; None: the dataset's only one.
    :return: the rows of each.
    :raises InputError: if one of them cannot be learned; of several, all that cannot are named.
    """
    from modelmill.tables.reading import read_arrow

    names = [choose_label(dataset, label) for label in labels]
    table = read_arrow(dataset, columns=[*names, dataset.split])
    found: list[LabelledData] = []
    refused: list[InputError] = []
    for name in names:
        try:
            found.append(_read_label(table, dataset, name))
        except InputError as error:
            refused.append(error)
    if len(refused) == 1:
        raise refused[0]
    if refused:
        raise DatasetError(
            f"every signal must have labels to learn; {len(refused)} of {len(names)} have not: "
            + " | ".join(map(str, refused[:_SHOWN])),
            remedy="choose the others under labels, or fix these",
        )
    return found


def _read_label(table: pa.Table, dataset: DatasetRef, name: str) -> LabelledData:
    column = table.column(name).combine_chunks()
    task = column_task(column.type)
    labelled = task.labelled(column)
    places = {
        split: np.flatnonzero(in_split(table, dataset, split) & labelled) for split in ("train", "validation")
    }
    if not len(places["train"]):
        raise DatasetError(
            "the train split must have labelled rows"
            if len(dataset.labels) == 1
            else f"the train split must have rows with a value in {name!r}",
            got=str(dataset),
            remedy="see the dataset's quarantine table, or change the split",
        )
    return _labelled(column, name, places)


def labelled_lists(labels: Sequence[Any], validation: Sequence[Any], *, label: str) -> LabelledData:
    """Return labels in memory as labelled rows: those of the train split, followed by the others.

    :param labels: of the train split: classes, lists of classes, or floats; None for a row without a label.
    :param validation: of the validation split; may be empty.
    :param label: name of the label.
    :return: the rows; their places count the train split's rows first.
    :raises DatasetError: if there is nothing to learn.
    """
    import pyarrow as pa

    column = pa.array([*labels, *validation])
    known = np.flatnonzero(column_task(column.type).labelled(column))
    train = known < len(labels)
    if not train.any():
        raise DatasetError(
            "the train rows must have labels", got=f"{len(labels)} rows, none with one", remedy="give some"
        )
    return _labelled(column, label, {"train": known[train], "validation": known[~train]})


def _labelled(column: pa.Array, name: str, places: Mapping[str, Places]) -> LabelledData:
    task = column_task(column.type)
    classes, targets = task.read_targets(column, name, places)
    train, validation = (Rows(places[split], targets[split]) for split in ("train", "validation"))
    return LabelledData(label=name, classes=classes, train=train, validation=validation, target=task.kind)
