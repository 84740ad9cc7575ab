"""Logits of a model for a split of a dataset, computed once and cached."""

from __future__ import annotations

import hashlib
import os
from functools import partial
from importlib import metadata
from pathlib import Path

import numpy as np

from modelmill.artifacts import DatasetRef, ModelRef
from modelmill.models.bundle import BundleInfo, trunk_folder
from modelmill.models.scorers import load_scorer, score_into
from modelmill.system.digests import is_sealed, seal
from modelmill.system.locks import lock_of, locked
from modelmill.tables.versions import table_fingerprint
from modelmill.tasks.calibration import FloatArray
from modelmill.tasks.examples import split_places
from modelmill.tokens.cache import DatasetTexts, library_versions
from modelmill.tokens.token_ids import Tokens
from modelmill.version import __version__
from modelmill.workspace import Workspace

Logits = FloatArray

_RUNTIMES = {"torch": "torch", "torchao": "torch", "static": "scipy"}
"""What computes the logits, by format; ONNX Runtime if a format is not listed."""


def cached_logits(
    model: ModelRef, folder: Path, dataset: DatasetRef, split: str, workspace: Workspace
) -> Logits:
    """Return a model's logits for all rows of a split.

    They are kept in the cache directory by the model's digest, the dataset's version and the split. The
    second of two steps that ask at the same time waits for the first.

    :param model: the model.
    :param folder: its bundle.
    :param dataset: the dataset.
    :param split: ``train``, ``validation`` or ``test``.
    :param workspace: where they are kept.
    :return: ``(rows of the split, outputs)``, in the order of the rows' keys.
    :raises ModelError: if the model cannot be loaded.
    """
    info = BundleInfo.load(folder)
    rows = split_places(dataset, split)
    place = logits_place(model, info, dataset, split, workspace)
    with locked(lock_of(place)):
        logits = _kept(place, shape=(len(rows), info.outputs))
        if logits is None:
            reader = trunk_folder(folder, info)
            tokens = DatasetTexts(dataset, workspace).tokens(reader, max_tokens=info.max_tokens).take(rows)
            logits = _score(folder, tokens, name=model.role or model.uri, workspace=workspace)
            keep_logits(logits, place)
    return logits


def logits_place(
    model: ModelRef, info: BundleInfo, dataset: DatasetRef, split: str, workspace: Workspace
) -> Path:
    """Return where the logits of a model for a split are kept.

    :param model: the model.
    :param info: what its bundle says.
    :param dataset: the dataset.
    :param split: ``train``, ``validation`` or ``test``.
    :param workspace: where they are kept.
    :return: the file, which may not be there.
    """
    return workspace.cache / "logits" / f"{model.digest[:32]}-{_rows_digest(dataset, split, info)}.npy"


def _rows_digest(dataset: DatasetRef, split: str, info: BundleInfo) -> str:
    """Return a digest of everything that the logits depend on, except the model's files."""
    runtime = _RUNTIMES.get(info.format, "onnxruntime")
    parts = (
        str(dataset),
        table_fingerprint(dataset),
        dataset.key,
        dataset.content_column(info.content),
        dataset.split,
        split,
        __version__,
        f"{runtime} {metadata.version(runtime)}",
        # Another decoder makes other pixels of the same file.
        *(f"{name} {version}" for name, version in library_versions(info.content).items()),
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _score(folder: Path, tokens: Tokens, *, name: str, workspace: Workspace) -> Logits:
    scorer = load_scorer(folder)
    workspace.log(f"{name}: scoring {len(tokens):,} rows")
    result: Logits = np.zeros((len(tokens), scorer.info.outputs), dtype=np.float32)
    score_into(result, scorer, tokens, progress=partial(workspace.progress, what="rows answered"))
    return result


def _kept(place: Path, *, shape: tuple[int, int]) -> Logits | None:
    if not is_sealed(place):
        return None  # not there, or damaged: it can be made again
    try:
        found = np.load(place, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return found if found.shape == shape and found.dtype == np.float32 else None


def keep_logits(logits: Logits, place: Path) -> None:
    """Keep logits where ``cached_logits`` finds them.

    :param logits: for all rows of a split, ``(rows, outputs)``.
    :param place: see :func:`logits_place`.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    scratch = place.with_name(f".{place.stem}-{os.getpid()}.npy")
    np.save(scratch, logits, allow_pickle=False)
    seal(scratch)
    scratch.replace(place)
