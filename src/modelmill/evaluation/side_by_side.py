"""Models side by side on texts and labels, without a dataset: for a notebook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from modelmill.artifacts import ModelRef
from modelmill.errors import ConfigError, DatasetError
from modelmill.evaluation.latency import measure_throughput
from modelmill.evaluation.options import EvaluationOptions
from modelmill.evaluation.report import MeasuredModel, compare_models, rows_to_time
from modelmill.evaluation.results import EvaluationReport
from modelmill.evaluation.rows import JudgedRows, LabelledRows, check_kinds
from modelmill.models.bundle import bundle_bytes
from modelmill.models.scorers import load_scorer

_SEED = 0


def evaluate(
    models: Mapping[str, Path],
    texts: Sequence[str],
    labels: Sequence[Any],
    *,
    train: tuple[Sequence[str], Sequence[Any]] | None = None,
    options: EvaluationOptions | None = None,
) -> EvaluationReport:
    """Measure models side by side: quality with confidence intervals, size, documents per second.

    :param models: bundles by name; at least one. Ratios are relative to the first.
    :param texts: texts to judge the models on; at least one.
    :param labels: of each text its class, its list of classes, or its number.
    :param train: texts and labels to fit the baselines on; None: no baselines.
    :param options: confidence, resamples, rows that are timed.
    :return: the report; ``print`` shows it as a table.
    :raises ConfigError: if there is no model.
    :raises DatasetError: if there are no texts, or not as many labels.
    :raises ModelError: if a model cannot be loaded, or the models answer with different kinds of labels.
    """
    if not models:
        raise ConfigError("an evaluation needs at least one model", got=0, remedy="name bundles")
    if not texts or len(texts) != len(labels):
        raise DatasetError(
            "an evaluation needs texts, and a label for each",
            got=f"{len(texts)} texts and {len(labels)} labels",
            remedy="give as many labels as texts",
        )
    how = options or EvaluationOptions()
    scorers = {name: load_scorer(Path(folder)) for name, folder in models.items()}
    infos = [scorer.info for scorer in scorers.values()]
    task = infos[0].task
    check_kinds(infos, task.kind, label=infos[0].label)
    values = list(labels)
    classes = tuple(sorted(task.classes_in(values).union(*(info.classes for info in infos))))
    labelled = LabelledRows(task, list(texts), values, np.ones(len(texts), dtype=np.bool_))
    rows = JudgedRows(infos[0].label, labelled, classes, task.truth(values, classes))
    timed = rows_to_time(rows.texts, how.throughput_rows)
    speeds = measure_throughput(scorers, timed, seed=_SEED)
    measured = [
        MeasuredModel(
            name=name,
            model=ModelRef(uri=str(models[name]), run_id="", digest="", format=scorer.info.format, role=name),
            info=scorer.info,
            answers=rows.answers(scorer.info, scorer.logits(rows.texts)),
            size_mb=bundle_bytes(Path(models[name])) / 1e6,
            speed=speeds[name],
        )
        for name, scorer in scorers.items()
    ]
    baselines = (
        task.baselines(train[0], task.truth(list(train[1]), classes), rows.texts) if train is not None else {}
    )
    return compare_models(measured, rows, baselines, how, dataset=f"{len(texts):,} texts")
