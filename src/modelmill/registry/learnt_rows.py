"""Test rows that a model of the comparison has learnt from: it must get no credit for them.

After another split, or in a dataset that was made anew, rows that the champion was trained on can be test
rows. The models' lineage names the datasets of their whole chains. Their train and validation rows are
compared with the test rows: by the same text, and by the similarity from which the dataset itself counts two
texts as one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from modelmill.artifacts import ContentKind, DatasetRef, ModelRef
from modelmill.datasets.overlap import find_copies, similar_texts
from modelmill.errors import GateError, ModelmillError
from modelmill.options import Record
from modelmill.registry.lineage import taught_by
from modelmill.tokens.images import IMAGES_AT_ONCE

if TYPE_CHECKING:
    import pyarrow as pa
    from mlflow import MlflowClient


class TooFewRowsError(GateError):
    """Too few test rows are left that no model of the comparison has learnt from."""


class UnknownRowsError(GateError):
    """Nobody knows which rows a model of the comparison has learnt from."""


class LeftOut(Record):
    """Test rows that are left out because models have learnt from them."""

    models: tuple[str, ...]
    """``challenger``, ``champion``, …: whose chain learnt from the dataset."""
    dataset: str
    """``uri@version``; empty if it is not known."""
    same: int
    """Test rows with the text of one of its train or validation rows."""
    near: int
    """Test rows that are near copies of one."""
    unknown: str = ""
    """Why its rows are not known; empty if they are."""

    @property
    def sentence(self) -> str:
        """All of it in words."""
        who = " and ".join(f"the {name}" for name in self.models)
        if self.unknown:
            return f"what {who} learnt from is not known, and may be among the test rows: {self.unknown}"
        near = f", and near copies of {self.near:,} more" if self.near else ""
        return f"{who} learnt from {self.same:,} of the test rows{near} ({self.dataset})"


def learnt_rows(
    models: Mapping[str, ModelRef],
    dataset: DatasetRef,
    contents: Sequence[Any],
    client: MlflowClient,
    *,
    kind: ContentKind = "text",
) -> tuple[npt.NDArray[np.bool_], tuple[LeftOut, ...]]:
    """Find the test rows that models have learnt from.

    A dataset keeps its own splits apart, so only other datasets and other versions are looked at.

    :param models: by their names in the comparison.
    :param dataset: that of the test rows.
    :param contents: texts of the test rows, or the files of their images.
    :param client: MLflow's client.
    :param kind: which of the two.
    :return: which rows, ``(rows,)``; and for each dataset that shares rows, or cannot be read, how many.
    """
    import pyarrow as pa

    column = pa.array(_compared(contents, kind), _TYPES[kind]())
    threshold = similar_texts(dataset) if kind == "text" else None
    learnt, told = np.zeros(len(contents), bool), []
    for other, (names, unknown) in _datasets(models, client).items():
        if other == dataset:
            continue
        try:
            if other is None:
                told.append(LeftOut(models=names, dataset="", same=0, near=0, unknown=unknown))
                continue
            copies = find_copies(column, _contents(other, kind), threshold=threshold)
        except ModelmillError as error:
            told.append(LeftOut(models=names, dataset=str(other), same=0, near=0, unknown=str(error)))
            continue
        learnt |= copies.any
        if copies.any.any():
            same, near = int(copies.exact.sum()), int((copies.near & ~copies.exact).sum())
            told.append(LeftOut(models=names, dataset=str(other), same=same, near=near))
    return learnt, tuple(told)


def _datasets(
    models: Mapping[str, ModelRef], client: MlflowClient
) -> dict[DatasetRef | None, tuple[tuple[str, ...], str]]:
    """Return the datasets that the models' chains learnt from, with the models' names."""
    names: dict[DatasetRef | None, dict[str, None]] = {}
    unknown: dict[str, None] = {}
    for name, model in models.items():
        for taught in taught_by(model.uri, client):
            names.setdefault(taught.dataset, {})[name] = None
            if taught.dataset is None:
                unknown[taught.model] = None
    why = f"MLflow does not say the dataset of {', '.join(unknown)}"
    return {dataset: (tuple(found), why) for dataset, found in names.items()}


def _contents(dataset: DatasetRef, kind: ContentKind) -> pa.Array:
    """Return the texts or images of all rows but the test rows."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from modelmill.tables.reading import read_arrow

    name, type_ = dataset.content_column(kind), _TYPES[kind]()
    if kind == "image":
        return _image_digests(dataset)
    table = read_arrow(dataset, columns=list(dict.fromkeys([name, dataset.split])))
    table = table.filter(pc.not_equal(table.column(dataset.split), "test"))
    column = table.column(name).drop_null().cast(type_)
    return column.combine_chunks() if column.num_chunks else pa.array([], type_)


def _compared(contents: Sequence[Any], kind: ContentKind) -> Iterable[Any]:
    """Return what two datasets are compared by: texts, or the digests of the files of images."""
    if kind == "text":
        return contents
    return (hashlib.sha256(content or b"").digest() for content in contents)


def _image_digests(dataset: DatasetRef) -> pa.Array:
    """Return the digests of the images of all rows but the test rows: no more than a batch is in memory."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from modelmill.tables.reading import scan_arrow

    name, found = dataset.image_column, list[bytes]()
    columns = list(dict.fromkeys([name, dataset.split]))
    for batch in scan_arrow(dataset, columns=columns, batch_rows=IMAGES_AT_ONCE):
        rows = batch.filter(pc.not_equal(batch.column(dataset.split), "test"))
        found += _compared([image.as_py() for image in rows.column(name).drop_null()], "image")
    return pa.array(found, pa.large_binary())


def _large_string() -> pa.DataType:
    import pyarrow as pa

    return pa.large_string()


def _large_binary() -> pa.DataType:
    import pyarrow as pa

    return pa.large_binary()


_TYPES: Mapping[ContentKind, Callable[[], pa.DataType]] = {"text": _large_string, "image": _large_binary}
"""Types in which contents are compared."""


def check_left(kept: int, rows: int, left_out: Sequence[LeftOut], *, least: int, lost: str) -> None:
    """Check that enough test rows are left, and that it is known what the models learnt from.

    :param kept: test rows that are left.
    :param rows: test rows in all.
    :param left_out: see :func:`learnt_rows`.
    :param least: rows that are needed once some are left out.
    :param lost: what the configuration says of datasets that are gone: ``refuse`` or ``compare``.
    :raises UnknownRowsError: if a dataset is gone and the configuration does not accept that.
    :raises TooFewRowsError: if too few rows are left.
    """
    unknown = [one for one in left_out if one.unknown]
    if unknown and lost == "refuse":
        raise UnknownRowsError(
            "it must be known which rows the models of a comparison have learnt from",
            got="; ".join(one.sentence for one in unknown),
            remedy="restore the dataset's table or version; or set lost_datasets: compare, which judges on "
            "all test rows and says so; or roll back to a champion whose dataset is there",
        )
    if kept < min(least, rows):
        told = "; ".join(one.sentence for one in left_out)
        raise TooFewRowsError(
            f"at least {min(least, rows)} test rows must be left that no compared model has learnt from",
            got=f"{kept} of {rows:,} ({told})",
            remedy="keep the former split and group, add test rows, or lower min_rows",
        )
