"""The rows that models are judged on, and what models answer to them: scored once, whoever asks again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from modelmill.artifacts import DatasetRef, ModelRef
from modelmill.datasets.examples import choose_label, split_places
from modelmill.errors import ModelError
from modelmill.models.bundle import BundleInfo, trunk_folder
from modelmill.models.scorers import load_scorer, score_into
from modelmill.system.locks import locked
from modelmill.tokens.cache import tokenised
from modelmill.tokens.token_ids import Tokens
from modelmill.version import __version__

if TYPE_CHECKING:
    import pyarrow as pa

    from modelmill.component import StepContext

Logits = npt.NDArray[np.float32]

_RUNTIMES = {"torch": "torch", "torchao": "torch", "static": "scipy"}
"""What computes the logits, by format; ONNX Runtime unless another one is named."""


def split_rows(dataset: DatasetRef, split: str, label: str) -> tuple[list[str], list[str]]:
    """Read the labelled rows of a split, in the order of their keys.

    :param dataset: the dataset.
    :param split: ``train``, ``validation`` or ``test``.
    :param label: label column; rows without a value in it are left out.
    :return: texts and labels, one of each for a row.
    :raises TableError: if the table cannot be read.
    """
    table = _labelled(dataset, split, label)
    table = table.filter(table.column(label).is_valid())
    return table.column(dataset.text_column).to_pylist(), [
        str(value) for value in table.column(label).to_pylist()
    ]


def judged_label(dataset: DatasetRef, infos: Sequence[BundleInfo], label: str | None = None) -> str:
    """Return the label column that models are judged by.

    :param dataset: the dataset.
    :param infos: what the models' bundles say; at least one.
    :param label: what the configuration says; None: the column that the models learned.
    :return: name of the column.
    :raises ConfigError: if the label is no label column of the dataset.
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


def cached_logits(
    model: ModelRef, dataset: DatasetRef, split: str, context: StepContext, *, label: str | None = None
) -> Logits:
    """Return a model's logits for the rows that :func:`split_rows` gives.

    They are kept in the cache directory by the model's digest, the dataset's version and the split. The
    second of two steps that ask at the same time waits for the first.

    :param model: the model.
    :param dataset: the dataset.
    :param split: ``train``, ``validation`` or ``test``.
    :param context: the step.
    :param label: label column; rows without a value in it are left out. None: what the model learned.
    :return: ``(rows, classes)``, float32.
    :raises ModelError: if the model cannot be loaded, or ``label`` is None and the dataset has not its label.
    """
    from modelmill.registry.bundles import fetch_bundle

    folder = fetch_bundle(model, context.cache)
    info = BundleInfo.load(folder)
    column = label or judged_label(dataset, [info])
    labelled = _labelled(dataset, split, column).column(column).is_valid()
    mask = np.asarray(labelled.to_pylist(), dtype=np.bool_)
    place = context.cache / "logits" / f"{model.digest[:32]}-{_rows_digest(dataset, split, info)}.npy"
    with locked(place.with_name(f".{place.stem}.lock")):
        logits = _kept(place, shape=(len(mask), info.outputs))
        if logits is None:
            reader = trunk_folder(folder, info)
            tokens = tokenised(
                dataset, reader, max_length=info.max_tokens, cache=context.cache, log=context.log
            ).take(split_places(dataset, split))
            logits = _score(folder, tokens, name=model.role or model.uri, context=context)
            _keep(logits, place)
    return logits[mask]


def cached_answers(
    model: ModelRef, dataset: DatasetRef, split: str, context: StepContext, *, label: str | None = None
) -> list[str]:
    """Return a model's answers to the rows that :func:`split_rows` gives.

    :param model: the model.
    :param dataset: the dataset.
    :param split: ``train``, ``validation`` or ``test``.
    :param context: the step.
    :param label: see :func:`cached_logits`.
    :return: the class of the highest logit of each row.
    """
    from modelmill.registry.bundles import fetch_bundle

    logits = cached_logits(model, dataset, split, context, label=label)
    classes = BundleInfo.load(fetch_bundle(model, context.cache)).classes
    return [classes[index] for index in logits.argmax(axis=1)]


def _labelled(dataset: DatasetRef, split: str, label: str) -> pa.Table:
    import pyarrow.compute as pc

    from modelmill.tables.reading import read_arrow

    table = read_arrow(dataset, columns=[dataset.text_column, label, dataset.split])
    return table.filter(pc.equal(table.column(dataset.split), split))


def _rows_digest(dataset: DatasetRef, split: str, info: BundleInfo) -> str:
    """Return a digest of everything but the model's files that the logits depend on."""
    runtime = _RUNTIMES.get(info.format, "onnxruntime")
    parts = (
        str(dataset),
        dataset.key,
        dataset.text_column,
        dataset.split,
        split,
        __version__,
        f"{runtime} {metadata.version(runtime)}",
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _score(folder: Path, tokens: Tokens, *, name: str, context: StepContext) -> Logits:
    scorer = load_scorer(folder)
    context.log(f"{name}: scoring {len(tokens):,} rows")
    result: Logits = np.zeros((len(tokens), scorer.info.outputs), dtype=np.float32)
    score_into(result, scorer, tokens, progress=context.progress)
    return result


def _kept(place: Path, *, shape: tuple[int, int]) -> Logits | None:
    try:
        found = np.load(place, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None  # not there, or damaged: it can be made again
    return found if found.shape == shape and found.dtype == np.float32 else None


def _keep(logits: Logits, place: Path) -> None:
    scratch = place.with_name(f".{place.stem}-{os.getpid()}.npy")
    np.save(scratch, logits, allow_pickle=False)
    scratch.replace(place)
