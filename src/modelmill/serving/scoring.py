"""Scoring a table with a model: what the job is asked to do, and what its workers do."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from modelmill.artifacts import ContentKind, ModelRef, TableRef
from modelmill.errors import ConfigError, TableError
from modelmill.jobs import JobResult, run_job
from modelmill.models.predictions import answers_to
from modelmill.settings import Settings
from modelmill.tables.opening import table_schema
from modelmill.tables.reading import check_columns
from modelmill.tables.table_request import TableRequest
from modelmill.tasks.base import AnswerType
from modelmill.tokens.contents import CONTENTS

if TYPE_CHECKING:
    import pyarrow as pa

    from modelmill.models.scorer import Scorer

RESULT_COLUMNS = ("prediction", "score", "model")
"""Answer and score, see :meth:`modelmill.tasks.base.Task.answers`, and the URI of the model."""

_loading = threading.Lock()


class ScoreTableResult(JobResult):
    """What was scored."""

    table: TableRef
    rows: int
    unscored: int
    """Rows without a prediction: they have no text, or no image that can be read."""
    unreadable: int = 0
    """Those among them that do have something: an image that cannot be decoded."""
    predictions: dict[str, int] = {}
    """Rows by class; a row with a set counts for each class in it. Empty for numbers."""
    numbers: dict[str, float] = {}
    """``min``, ``mean`` and ``max`` of predictions that are numbers; empty for classes."""


class ScoreTableRequest(TableRequest[ScoreTableResult]):
    """Score every row of a Delta table with a model."""

    job = "score_table"

    model: ModelRef = Field(description="The model.")
    bundle: str = Field(description="Folder with the model's files.")
    text: str = Field(description="Column with the text or the image.")
    content: ContentKind = Field("text", description="What the model reads of it.")
    answer_type: AnswerType = Field(description="Type of the column prediction: that of the model's task.")
    keep: tuple[str, ...] = Field((), description="Columns to carry along; empty: all.")
    tracking_uri: str = Field("", description="MLflow server, for workers without the model's folder.")


def score_table(request: ScoreTableRequest, *, settings: Settings | None = None) -> ScoreTableResult:
    """Score a table.

    :param request: the table, the model and the place.
    :param settings: which Spark engine to use; None: from the environment.
    :return: the scored table, at the version that this request wrote.
    :raises ConfigError: if columns collide.
    :raises TableError: if a table cannot be read or written, or has no such column.
    :raises ModelError: if the model cannot be loaded.
    """
    kept_columns(request)
    return run_job(request, settings=settings)


def kept_columns(request: ScoreTableRequest) -> list[str]:
    """Check the request against the table's columns.

    :param request: the request.
    :return: the columns to carry along.
    :raises ConfigError: if columns collide.
    :raises TableError: if a column is missing.
    """
    table = request.table
    names = table_schema(table).names
    check_columns(names, [request.text, *request.keep], place=str(table))
    _check_content(request)
    keep = list(dict.fromkeys(request.keep)) if request.keep else names
    taken = [name for name in keep if name.lower() in RESULT_COLUMNS]
    if taken:
        raise ConfigError(
            f"the scored table's own columns are {', '.join(RESULT_COLUMNS)}",
            got=f"{', '.join(taken)} in {table}",
            remedy="list the columns to carry along under keep, without these",
        )
    return keep


def _check_content(request: ScoreTableRequest) -> None:
    """Refuse a column that cannot hold images: it would be scored as if no row had one."""
    import pyarrow as pa

    kind = table_schema(request.table).field(request.text).type
    if request.content != "image":  # whatever is no text becomes one; what has parts has no one text
        if pa.types.is_nested(kind):
            raise TableError(
                f"a column that is scored as a text has simple values ({request.table})",
                got=f"{request.text}: {kind}",
                remedy="name another column under text, or take the text out of it when the table is made",
            )
        return
    if not CONTENTS["image"].fits(kind):
        raise ConfigError(
            f"the model reads images: a column with the bytes of their files ({request.table})",
            got=f"{request.text}: {kind}",
            remedy="name another column under text",
        )


def score_batches(
    batches: Iterable[pa.RecordBatch], *, request: ScoreTableRequest
) -> Iterator[pa.RecordBatch]:
    """Score batches in a worker of the engine. The last column is the text or image, and does not come back.

    :param batches: rows: columns to carry along, then the text or image.
    :param request: which model; it is fetched anew where the worker has no such folder.
    :yields: columns carried along, then :data:`RESULT_COLUMNS`.
    """
    import pyarrow as pa

    types = {"string": pa.string(), "array<string>": pa.list_(pa.string()), "double": pa.float64()}
    scorer: Scorer | None = None
    for batch in batches:
        scorer = scorer or _scorer(request.model, request.bundle, request.tracking_uri)
        predictions, scores = answers_to(scorer, batch.column(batch.num_columns - 1).to_pylist())
        arrays = [
            *batch.columns[:-1],
            pa.array(predictions, types[request.answer_type]),
            pa.array(scores, pa.float64()),
            pa.array([request.model.uri] * batch.num_rows, pa.string()),
        ]
        yield pa.RecordBatch.from_arrays(arrays, names=[*batch.schema.names[:-1], *RESULT_COLUMNS])


def _scorer(model: ModelRef, bundle: str, tracking_uri: str) -> Scorer:
    # One load for each process: the embedded engine runs several partitions in one.
    with _loading:
        return _load(model, bundle, tracking_uri)


@functools.lru_cache(maxsize=2)
def _load(model: ModelRef, bundle: str, tracking_uri: str) -> Scorer:
    from modelmill.models.scorers import load_scorer
    from modelmill.registry.signing import verify_digest

    place = Path(bundle)
    if place.is_dir():
        verify_digest(place, model.digest)
    else:
        from modelmill.registry.bundles import fetch_bundle, worker_cache

        os.environ.setdefault("MLFLOW_TRACKING_URI", tracking_uri)
        place = fetch_bundle(model, worker_cache())
    return load_scorer(place, threads=1 if _shares_its_machine() else None)


def _shares_its_machine() -> bool:
    """Return whether this is one of many Python workers that a JVM Spark runs side by side."""
    try:
        from pyspark import TaskContext
    except ImportError:
        return False
    return TaskContext.get() is not None
