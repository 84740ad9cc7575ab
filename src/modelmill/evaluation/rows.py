"""The rows that models are judged on, and their labels in the form in which answers are compared."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from modelmill.artifacts import ContentKind, DatasetRef
from modelmill.datasets.options import LabelKind
from modelmill.datasets.stored_images import StoredImages, stored_images
from modelmill.errors import DatasetError, ModelError
from modelmill.evaluation.logits import Logits
from modelmill.models.bundle import BundleInfo
from modelmill.tasks.base import Answers, Task
from modelmill.tasks.examples import choose_label
from modelmill.tasks.kinds import column_task
from modelmill.tokens.contents import CONTENTS


@dataclass(frozen=True)
class LabelledRows:
    """Rows of a split that have a label, in the order of their keys."""

    task: Task
    """That of the label column."""
    texts: Sequence[Any]
    """What the models read of each row: its text, or the file of its image, which is read when it is asked
    for."""
    values: list[Any]
    """Labels, see :meth:`modelmill.tasks.base.Task.values`."""
    labelled: npt.NDArray[np.bool_]
    """Which rows of the whole split these are, ``(rows of the split,)``."""
    content: ContentKind = "text"
    """What models read of them."""

    def keep(self, kept: npt.NDArray[np.bool_]) -> LabelledRows:
        """Return some of the rows.

        :param kept: which, ``(rows,)``.
        :return: those.
        """
        labelled = self.labelled.copy()
        labelled[labelled] = kept
        values = list(itertools.compress(self.values, kept))
        return LabelledRows(self.task, _kept(self.texts, kept), values, labelled, self.content)


def labelled_rows(
    dataset: DatasetRef, split: str, label: str, *, content: ContentKind = "text"
) -> LabelledRows:
    """Read the rows of a split that have a label.

    :param dataset: the dataset.
    :param split: ``train``, ``validation`` or ``test``.
    :param label: label column.
    :param content: what models read of them.
    :return: the rows.
    :raises TableError: if the table cannot be read.
    :raises DatasetError: if a row has no text, or what is none.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from modelmill.tables.reading import read_arrow
    from modelmill.tokens.cache import checked_contents

    light = [dataset.key, dataset.content_column(content)] if content == "text" else []
    table = read_arrow(dataset, columns=list(dict.fromkeys([*light, label, dataset.split])))
    table = table.filter(pc.equal(table.column(dataset.split), split))
    column = table.column(label).combine_chunks()
    task = column_task(column.type)
    labelled = task.labelled(column)
    values = task.values(column.filter(pa.array(labelled)))
    contents: Sequence[Any]
    if content == "image":
        contents = stored_images(dataset, split).keep(labelled)
    else:
        read = checked_contents(table.filter(pa.array(labelled)), dataset, CONTENTS[content])
        contents = read.to_pylist()
    return LabelledRows(task, contents, values, labelled, content)


def _kept(contents: Sequence[Any], kept: npt.NDArray[np.bool_]) -> Sequence[Any]:
    if isinstance(contents, StoredImages):
        return contents.keep(kept)
    return list(itertools.compress(contents, kept))


def _joined(first: Sequence[Any], second: Sequence[Any]) -> Sequence[Any]:
    if isinstance(first, StoredImages) and isinstance(second, StoredImages):
        return first + second
    return [*first, *second]


def judged_label(dataset: DatasetRef, infos: Sequence[BundleInfo], label: str | None = None) -> str:
    """Return the label column that models are judged by.

    :param dataset: the dataset.
    :param infos: of the models' bundles; at least one.
    :param label: what the configuration says; None: the column that the models learned.
    :return: name of the column.
    :raises ConfigError: if the label is not a label column of the dataset.
    :raises ModelError: if the models answer different labels, or another one than the dataset has.
    """
    learned = sorted({info.label for info in infos})
    if len(learned) > 1:
        raise ModelError(
            "models that are compared must answer the same label",
            got=", ".join(learned),
            remedy="compare the models of each label in a step of its own",
        )
    (own,) = learned
    chosen = choose_label(dataset, own if label is None and own in dataset.labels else label)
    if label is None and chosen != own:
        raise ModelError(
            f"a model must answer a label of the dataset ({', '.join(dataset.labels)})",
            got=own,
            remedy=f"add config: {{label: {chosen}}} if the column has another name in this dataset",
        )
    return chosen


@dataclass(frozen=True)
class JudgedRows:
    """The labelled test rows, with the classes of the labels and of the models that are judged on them."""

    label: str
    rows: LabelledRows
    classes: tuple[str, ...]
    """Sorted; empty for numbers."""
    truth: Answers

    def __len__(self) -> int:
        return len(self.truth)

    @property
    def task(self) -> Task:
        """The task of the label."""
        return self.rows.task

    @property
    def texts(self) -> Sequence[Any]:
        """Text of each row, or the file of its image."""
        return self.rows.texts

    def keep(self, kept: npt.NDArray[np.bool_]) -> JudgedRows:
        """Return some of the rows; the classes stay.

        :param kept: which, ``(rows,)``.
        :return: those.
        """
        return replace(self, rows=self.rows.keep(kept), truth=self.truth[kept])

    def answers(self, info: BundleInfo, logits: Logits) -> Answers:
        """Return a model's answers to these rows.

        :param info: of its bundle.
        :param logits: for all rows of the test split, ``(rows of the split, outputs)``.
        :return: in the form of :attr:`truth`.
        """
        return self.task.decide(
            logits[self.rows.labelled], known=info.classes, classes=self.classes, calibration=info.calibration
        )

    def baselines(self, dataset: DatasetRef) -> dict[str, Answers]:
        """Fit the baselines on the train and validation rows, and answer these rows.

        :param dataset: the dataset.
        :return: answers by name of the baseline.
        :raises DatasetError: if there are no labelled train or validation rows.
        """
        content = self.rows.content
        parts = [
            labelled_rows(dataset, split, self.label, content=content) for split in ("train", "validation")
        ]
        texts = _joined(parts[0].texts, parts[1].texts)
        if not texts:
            raise DatasetError(
                "baselines need labelled train or validation rows",
                got=str(dataset),
                remedy="change the dataset's split, or set baselines: false",
            )
        values = [value for part in parts for value in part.values]
        truth = self.task.truth(values, self.classes)
        return self.task.baselines(texts, truth, self.texts, validation=len(parts[1].texts))


def judged_rows(dataset: DatasetRef, label: str, infos: Sequence[BundleInfo]) -> JudgedRows:
    """Read the labelled test rows.

    :param dataset: the dataset.
    :param label: label column, see :func:`judged_label`.
    :param infos: of the bundles of the models that are judged; at least one.
    :return: the rows.
    :raises DatasetError: if there are none.
    :raises ModelError: if a model answers with another kind of label than the column has, or some read texts
        and others images.
    """
    rows = labelled_rows(dataset, "test", label, content=judged_content(infos))
    check_kinds(infos, rows.task.kind, label=label)
    if not rows.texts:
        raise DatasetError(
            f"the test split must have rows with a value in {label!r}",
            got=str(dataset),
            remedy="change the dataset's split, or label test rows",
        )
    names = rows.task.classes_in(rows.values).union(*(info.classes for info in infos))
    classes = tuple(sorted(names))
    return JudgedRows(label, rows, classes, rows.task.truth(rows.values, classes))


def judged_content(infos: Sequence[BundleInfo]) -> ContentKind:
    """Return what models that are judged on the same rows read of them.

    :param infos: of their bundles; at least one.
    :return: texts or images.
    :raises ModelError: if some read the one and some the other.
    """
    kinds = sorted({info.content for info in infos})
    if len(kinds) > 1:
        raise ModelError(
            "models that are compared read the same of a row",
            got=", ".join(f"{info.content} ({info.label})" for info in infos),
            remedy="compare the models of texts and those of images in a step each",
        )
    return infos[0].content


def check_kinds(infos: Sequence[BundleInfo], kind: LabelKind, *, label: str) -> None:
    """Check that models answer with the kind of label that they are judged by.

    :param infos: of their bundles.
    :param kind: of the label.
    :param label: its name, for the error.
    :raises ModelError: if one of them answers with another kind.
    """
    kinds = sorted({info.target for info in infos})
    if kinds != [kind]:
        raise ModelError(
            f"models are judged by a label of the kind that they answer with; {label!r} holds {kind}",
            got=", ".join(kinds),
            remedy="choose the label column that they learned, or evaluate models of each kind by themselves",
        )
