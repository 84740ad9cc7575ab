"""The rows of a dataset as a training sees them: their places, and the number of each row's class."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from modelmill.artifacts import DatasetRef
from modelmill.datasets.options import LabelKind
from modelmill.errors import ConfigError, DatasetError, InputError, did_you_mean, shorten
from modelmill.tokens.token_ids import Places

if TYPE_CHECKING:
    import pyarrow as pa

Targets = npt.NDArray[Any]

LABEL_KINDS: tuple[LabelKind, ...] = ("class", "classes", "number")
_CLASSIFIERS: tuple[LabelKind, ...] = ("class",)
_SHOWN = 5
"""Labels that an error shows in full."""


@dataclass(frozen=True)
class Rows:
    """Labelled rows of one split, in the order of their keys."""

    places: Places
    """Where each row stands among all rows of the dataset in the order of their keys, ``(rows,)``."""
    targets: Targets
    """What each row's label says, see :attr:`LabelledData.target`."""

    def __len__(self) -> int:
        return len(self.places)


@dataclass(frozen=True)
class LabelledData:
    """What there is to learn for one label."""

    label: str
    classes: tuple[str, ...]
    """The labels of the train split, sorted; empty for numbers."""
    train: Rows
    validation: Rows
    """Empty if the dataset has no validation split."""
    target: LabelKind = "class"
    """Targets are the number of each row's class, ``(rows,)`` int64; or 1 for each of its classes,
    ``(rows, classes)`` float32; or its number, ``(rows,)`` float32."""

    @property
    def outputs(self) -> int:
        """Number of logits that answer it."""
        return 1 if self.target == "number" else len(self.classes)

    @property
    def units(self) -> tuple[float, float]:
        """Mean and standard deviation of the train rows' numbers; 0 and 1 for classes."""
        if self.target != "number":
            return 0.0, 1.0
        return float(self.train.targets.mean()), float(self.train.targets.std()) or 1.0


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


def read_labelled(
    dataset: DatasetRef, *, label: str | None, kinds: Collection[LabelKind] = _CLASSIFIERS
) -> LabelledData:
    """Read the train and validation splits of a dataset; rows without a label are left out.

    :param dataset: the dataset.
    :param label: label column; None: the dataset's only one.
    :param kinds: kinds of labels that the caller can learn.
    :return: the rows.
    :raises ConfigError: if the label column is unknown, or of another kind.
    :raises DatasetError: if the train split has no rows or one class, or validation has an unknown class.
    """
    (found,) = read_all_labelled(dataset, labels=[choose_label(dataset, label)], kinds=kinds)
    return found


def read_all_labelled(
    dataset: DatasetRef, *, labels: Sequence[str], kinds: Collection[LabelKind]
) -> list[LabelledData]:
    """Read several label columns at once.

    :param dataset: the dataset.
    :param labels: label columns.
    :param kinds: kinds of labels that the caller can learn.
    :return: the rows of each.
    :raises InputError: if one of them cannot be learned; where there are several, all that cannot are named.
    """
    from modelmill.tables.reading import read_arrow

    names = [choose_label(dataset, label) for label in labels]
    table = read_arrow(dataset, columns=[*names, dataset.split])
    found: list[LabelledData] = []
    refused: list[InputError] = []
    for name in names:
        try:
            found.append(_read_label(table, dataset, name, kinds))
        except InputError as error:
            refused.append(error)
    if len(refused) == 1:
        raise refused[0]
    if refused:
        raise DatasetError(
            f"every signal must have labels to learn; {len(refused)} of {len(names)} have not: "
            + " | ".join(map(str, refused[:_SHOWN])),
            remedy="choose the others under labels, or mend these",
        )
    return found


def _read_label(
    table: pa.Table, dataset: DatasetRef, name: str, kinds: Collection[LabelKind]
) -> LabelledData:
    column = table.column(name).combine_chunks()
    kind = label_kind(column.type)
    if kind not in kinds:
        raise ConfigError(
            "a classifier learns a label of kind class: one class a row"
            if set(kinds) == {"class"}
            else f"a label must be of one of the kinds {', '.join(kinds)}",
            got=f"{name}: {column.type}",
            remedy="choose another label column, or set label_kinds in build_dataset",
        )
    labelled = column.is_valid().to_numpy(zero_copy_only=False)
    if kind == "number":
        labelled &= np.isfinite(column.cast("double").fill_null(np.nan).to_numpy(zero_copy_only=False))
    places = {split: _places(table, dataset, split, labelled) for split in ("train", "validation")}
    if not len(places["train"]):
        raise DatasetError(
            "the train split must have labelled rows"
            if len(dataset.labels) == 1
            else f"the train split must have rows with a value in {name!r}",
            got=str(dataset),
            remedy="see the dataset's quarantine table, or change the split",
        )
    classes, targets = _TARGETS[kind](column, name, places)
    train, validation = (Rows(places[split], targets[split]) for split in ("train", "validation"))
    return LabelledData(label=name, classes=classes, train=train, validation=validation, target=kind)


def label_kind(kind: pa.DataType) -> LabelKind:
    """Return the kind of label that a column holds.

    :param kind: the column's type.
    :return: the kind.
    """
    import pyarrow as pa

    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return "classes"
    return "number" if pa.types.is_floating(kind) else "class"


_Found = tuple[tuple[str, ...], dict[str, Targets]]


def _one_class(column: pa.Array, name: str, places: Mapping[str, Places]) -> _Found:
    encoded = column.dictionary_encode()
    names = [str(value) for value in encoded.dictionary.to_pylist()]
    # Of each row the number of its label among all names; -1 without a label.
    codes = encoded.indices.fill_null(-1).to_numpy()
    seen = {split: {names[code] for code in np.unique(codes[rows])} for split, rows in places.items()}
    classes = tuple(sorted(seen["train"]))
    _check_classes(name, classes, seen["validation"])
    numbers = {found: number for number, found in enumerate(classes)}
    targets = np.array([numbers.get(found, -1) for found in names], dtype=np.int64)
    return classes, {split: targets[codes[rows]] for split, rows in places.items()}


def _many_classes(column: pa.Array, name: str, places: Mapping[str, Places]) -> _Found:
    import pyarrow.compute as pc

    parents = pc.list_parent_indices(column).to_numpy()
    encoded = pc.list_flatten(column).dictionary_encode()
    names = np.array([str(value) for value in encoded.dictionary.to_pylist()], dtype=object)
    codes = encoded.indices.fill_null(-1).to_numpy()
    found = {}
    seen: dict[str, set[str]] = {}
    for split, rows in places.items():
        inside = np.isin(parents, rows) & (codes >= 0)
        found[split] = np.searchsorted(rows, parents[inside]), names[codes[inside]]
        seen[split] = set(found[split][1])
    classes = tuple(sorted(seen["train"]))
    _check_classes(name, classes, seen["validation"])
    numbers = {value: number for number, value in enumerate(classes)}
    targets = {}
    for split, rows in places.items():
        which, values = found[split]
        targets[split] = np.zeros((len(rows), len(classes)), dtype=np.float32)
        targets[split][which, [numbers[value] for value in values]] = 1
    return classes, targets


def _number(column: pa.Array, name: str, places: Mapping[str, Places]) -> _Found:
    values = column.cast("double").to_numpy(zero_copy_only=False).astype(np.float32)
    if len(np.unique(values[places["train"]])) < 2:
        raise DatasetError(
            f"label column {name!r} must have at least two values in the train split",
            got=float(values[places["train"]][0]),
            remedy="add rows with another value, or choose another label column",
        )
    return (), {split: values[rows] for split, rows in places.items()}


_TARGETS: Mapping[LabelKind, Callable[[pa.Array, str, Mapping[str, Places]], _Found]] = {
    "class": _one_class,
    "classes": _many_classes,
    "number": _number,
}
"""What makes targets of a label column, by its kind."""


def _check_classes(name: str, classes: tuple[str, ...], validation: set[str]) -> None:
    if len(classes) < 2:
        raise DatasetError(
            f"label column {name!r} must have at least two classes in the train split",
            got=", ".join(classes) or "none",
            remedy="add rows of another class, or choose another label column",
        )
    unknown = sorted(validation - set(classes))
    if unknown:
        raise DatasetError(
            f"a class of {name!r} outside the train split must also stand in it; unknown: "
            f"{shorten(', '.join(unknown))}",
            remedy="add train rows of that class, or take those rows out",
        )


def split_places(dataset: DatasetRef, split: str) -> Places:
    """Return where the rows of a split stand among all rows of the dataset, in the order of their keys.

    :param dataset: the dataset.
    :param split: ``train``, ``validation`` or ``test``.
    :return: ``(rows,)``.
    """
    from modelmill.tables.reading import read_arrow

    return _places(read_arrow(dataset, columns=[dataset.split]), dataset, split, True)


def _places(table: pa.Table, dataset: DatasetRef, split: str, chosen: npt.NDArray[np.bool_] | bool) -> Places:
    import pyarrow.compute as pc

    inside = pc.equal(table.column(dataset.split), split).fill_null(False)
    return np.flatnonzero(inside.to_numpy() & chosen)
