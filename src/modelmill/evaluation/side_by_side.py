"""What every report on several models needs: names to tell them apart, and how fast they are, in turns."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from modelmill.artifacts import ModelRef
from modelmill.component import StepContext
from modelmill.evaluation.latency import Throughput, measure_throughput
from modelmill.models.scorers import load_scorer
from modelmill.steps.evaluate import EvaluateConfig

_SEED = 0


def side_by_side(
    folders: Sequence[Path], rows: Sequence[str], config: EvaluateConfig, context: StepContext
) -> list[Throughput]:
    """Measure documents per second of models, on the same texts in turns.

    :param folders: the models' bundles.
    :param rows: the test texts; some of them are taken.
    :param config: how many.
    :param context: the step.
    :return: for each model.
    """
    count = min(config.throughput_rows, len(rows))
    chosen = np.random.default_rng(_SEED).choice(len(rows), size=count, replace=False)
    texts = [rows[index] for index in chosen]
    context.log(f"measuring documents per second of {len(folders)} models side by side on {count:,} rows")
    scorers = {str(index): load_scorer(folder) for index, folder in enumerate(folders)}
    found = measure_throughput(scorers, texts, seed=_SEED, progress=context.progress)
    return [found[str(index)] for index in range(len(folders))]


def model_names(models: Sequence[ModelRef]) -> list[str]:
    """Return a name for each model: role and short id, unique.

    :param models: the models.
    :return: the names.
    """
    return unique_names([f"{model.role} ({_short(model.uri)})" for model in models])


def _short(uri: str) -> str:
    name = uri.removeprefix("models:/")
    return name[:10] if name.startswith("m-") and "/" not in name else name


def unique_names(names: Sequence[str]) -> list[str]:
    """Return names with a number where one comes up again.

    :param names: the names.
    :return: as many, each once.
    """
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name} {seen[name]}")
    return found


def slug(name: str) -> str:
    """Return a name that MLflow takes: a to z, digits and underscores.

    :param name: any name.
    :return: the name.
    """
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or "model"
