"""Scoring a table with a model: what is checked before Spark starts, what its workers do, what is logged."""

from __future__ import annotations

import functools
import json
import os
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelmill.artifacts import ModelRef, TableRef
from modelmill.datasets.preparation import BLANKS
from modelmill.errors import ConfigError
from modelmill.models.bundle import BundleInfo
from modelmill.tables.reading import check_columns, open_table, table_location

if TYPE_CHECKING:
    import pyarrow as pa

    from modelmill.component import StepContext
    from modelmill.models.scorer import Scorer
    from modelmill.steps.score_table import ScoreTableConfig

RESULT_COLUMNS = ("prediction", "score", "model")
"""Answer, its probability (see :func:`modelmill.models.predictions.answers`), and the URI of the model."""

_loading = threading.Lock()


def run(config: ScoreTableConfig, table: TableRef, model: ModelRef, context: StepContext) -> TableRef:
    """Score a table.

    :param config: the step's configuration.
    :param table: what to score.
    :param model: what to score it with.
    :param context: the step's context.
    :return: the scored table, at the version that this run wrote.
    :raises ConfigError: if columns collide.
    :raises TableError: if a table cannot be read or written, or has no such column.
    :raises ModelError: if the model cannot be loaded.
    """
    from modelmill.registry.bundles import fetch_bundle
    from modelmill.spark import run_job

    place = table_location(config.to)
    folder = fetch_bundle(model, context.cache)
    text = config.text or BundleInfo.load(folder).text
    keep = check_config(config, table, text=text, place=place)
    argv = ["--table", table.uri, "--version", str(table.version), "--text", text, "--keep", json.dumps(keep)]
    argv += ["--bundle", str(folder), "--model", model.model_dump_json(), "--to", place]
    argv += ["--tracking-uri", context.settings.tracking_uri, "--transaction", context.step_key]
    began = time.monotonic()
    result = run_job("score_table", argv, settings=context.settings)
    seconds = time.monotonic() - began
    scored = TableRef.model_validate(result["table"])
    _log(result, table, scored, seconds, context)
    return scored


def check_config(config: ScoreTableConfig, table: TableRef, *, text: str, place: str) -> list[str]:
    """Check the configuration against the table's columns.

    :param config: the step's configuration.
    :param table: what to score.
    :param text: column with the text.
    :param place: where the result goes.
    :return: the columns to carry along.
    :raises ConfigError: if columns collide, or the table would be written over itself.
    :raises TableError: if a column is missing.
    """
    names = [field.name for field in open_table(table.uri, version=table.version).schema().fields]
    check_columns(names, [text, *config.keep], place=str(table))
    keep = list(dict.fromkeys(config.keep)) if config.keep else names
    taken = [name for name in keep if name.lower() in RESULT_COLUMNS]
    if taken:
        raise ConfigError(
            f"the scored table's own columns are {', '.join(RESULT_COLUMNS)}",
            got=f"{', '.join(taken)} in {table}",
            remedy="list the columns to carry along under keep, without these",
        )
    if place == table.uri:
        raise ConfigError("a table is not written over its source", got=place, remedy="name another table")
    return keep


def _log(
    result: dict[str, Any], source: TableRef, scored: TableRef, seconds: float, context: StepContext
) -> None:
    rows, unscored = result["rows"], result["unscored"]
    context.run.log_dataset(source, context="scoring", rows=rows)
    context.run.log_json({**result, "source": str(source)}, "scores.json")
    context.run.log_metrics({"rows": rows, "rows_unscored": unscored, "seconds": seconds})
    context.log(f"{context.step}: {rows} rows scored, {unscored} of them without a text; {scored}")


def score_batches(
    batches: Iterable[pa.RecordBatch], *, folder: str, model: str, tracking_uri: str
) -> Iterator[pa.RecordBatch]:
    """Score batches in a worker of the engine. The last column is the text, and does not come back.

    :param batches: rows: columns to carry along, then the text.
    :param folder: the model's bundle on the driver's disk; fetched anew where the worker has no such folder.
    :param model: the model's reference, JSON.
    :param tracking_uri: MLflow server to fetch it from.
    :yields: columns carried along, then :data:`RESULT_COLUMNS`.
    """
    import pyarrow as pa

    scorer: Scorer | None = None
    uri = ModelRef.model_validate_json(model).uri
    for batch in batches:
        scorer = scorer or _scorer(folder, model, tracking_uri)
        texts: list[str | None] = batch.column(batch.num_columns - 1).to_pylist()
        present = [index for index, text in enumerate(texts) if text is not None and text.strip(BLANKS)]
        predictions: list[str | None] = [None] * len(texts)
        scores: list[float | None] = [None] * len(texts)
        if present:
            logits = scorer.logits([texts[index] or "" for index in present])  # (rows, outputs)
            for index, answer, score in zip(present, *scorer.info.answers(logits), strict=True):
                predictions[index], scores[index] = answer, score
        arrays = [
            *batch.columns[:-1],
            pa.array(predictions, pa.string()),
            pa.array(scores, pa.float32()),
            pa.array([uri] * len(texts), pa.string()),
        ]
        yield pa.RecordBatch.from_arrays(arrays, names=[*batch.schema.names[:-1], *RESULT_COLUMNS])


def _scorer(folder: str, model: str, tracking_uri: str) -> Scorer:
    # One load for each process: the embedded engine runs several partitions in one.
    with _loading:
        return _load(folder, model, tracking_uri)


@functools.lru_cache(maxsize=2)
def _load(folder: str, model: str, tracking_uri: str) -> Scorer:
    from modelmill.models.scorers import load_scorer
    from modelmill.registry.pyfunc import verify_digest

    place, reference = Path(folder), ModelRef.model_validate_json(model)
    if place.is_dir():
        verify_digest(place, reference.digest)
    else:
        from modelmill.registry.bundles import fetch_bundle, worker_cache

        os.environ.setdefault("MLFLOW_TRACKING_URI", tracking_uri)
        place = fetch_bundle(reference, worker_cache())
    return load_scorer(place, threads=1 if _shares_its_machine() else None)


def _shares_its_machine() -> bool:
    """Return whether this is one of many Python workers that a JVM Spark runs side by side."""
    try:
        from pyspark import TaskContext
    except ImportError:
        return False
    return TaskContext.get() is not None
