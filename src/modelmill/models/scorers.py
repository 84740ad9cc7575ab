"""Scoring texts with a model bundle, whatever its format: what gates, services and Spark workers run.

An ONNX bundle runs one row at a time, see :mod:`modelmill.models.onnx_session`. A head runs on its trunk;
where there are many, :mod:`modelmill.models.signal_scorer` runs the trunk once for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from modelmill.errors import ModelError
from modelmill.models.bundle import BundleInfo
from modelmill.models.onnx_session import RowSession
from modelmill.models.scorer import Scorer
from modelmill.system.cpu import usable_cores
from modelmill.tasks.calibration import FloatArray
from modelmill.tokens.contents import load_reader
from modelmill.tokens.token_ids import Tokens

if TYPE_CHECKING:
    import torch

    from modelmill.models.classifier import Classifier


_BATCH_ROWS = 32
_CHUNK_ROWS = 512
"""Rows between two reports of progress: whole batches."""


class OnnxScorer(Scorer):
    """An ``onnx`` bundle in ONNX Runtime, one row at a time: batch-invariant to the bit.

    :param folder: the bundle.
    :param info: what it says of itself.
    :param threads: rows that are scored at the same time.
    """

    def __init__(self, folder: Path, info: BundleInfo, *, threads: int) -> None:
        super().__init__(info, load_reader(folder, max_tokens=info.max_tokens))
        self._session = RowSession(folder / "model.onnx", threads=threads)

    def score(self, tokens: Tokens) -> FloatArray:
        """See :meth:`Scorer.score`."""
        result: FloatArray = np.zeros((len(tokens), self.info.outputs), dtype=np.float32)

        def use(row: int, outputs: Sequence[FloatArray]) -> None:
            result[row] = outputs[0]

        self._session.run(tokens, ["logits"], use)
        return result


class TorchScorer(Scorer):
    """A ``torch`` or ``torchao`` bundle in PyTorch, in batches sorted by length; on the GPU if there is one.

    :param folder: the bundle.
    :param info: what it says of itself.
    :param load: loads the model onto a device.
    """

    def __init__(
        self, folder: Path, info: BundleInfo, load: Callable[[Path, torch.device], Classifier]
    ) -> None:
        import torch

        from modelmill.system.memory import keep_freed_memory

        keep_freed_memory()
        super().__init__(info, load_reader(folder, max_tokens=info.max_tokens))
        self._model = load(folder, torch.device("cuda" if torch.cuda.is_available() else "cpu"))

    def score(self, tokens: Tokens) -> FloatArray:
        """See :meth:`Scorer.score`."""
        from modelmill.models.classifier import forward_sorted

        result: FloatArray = np.zeros((len(tokens), self.info.outputs), dtype=np.float32)
        for rows, logits in forward_sorted(self._model, tokens, batch_size=_BATCH_ROWS):
            result[rows] = logits
        return result


def _onnx(folder: Path, info: BundleInfo, threads: int) -> Scorer:
    return OnnxScorer(folder, info, threads=threads)


def _torch(folder: Path, info: BundleInfo, _threads: int) -> Scorer:
    from modelmill.models.classifier import load_classifier

    return TorchScorer(folder, info, lambda folder, device: load_classifier(folder).to(device).eval())


def _torchao(folder: Path, info: BundleInfo, _threads: int) -> Scorer:
    from modelmill.models.torchao import load_quantised

    return TorchScorer(folder, info, load_quantised)


def _head(folder: Path, info: BundleInfo, threads: int) -> Scorer:
    from modelmill.models.trunk import HeadScorer

    return HeadScorer(folder, info, threads=threads)


def _trunk(folder: Path, _info: BundleInfo, _threads: int) -> Scorer:
    raise ModelError(
        "a trunk answers no signal by itself", got=str(folder), remedy="load a head that stands on it"
    )


def _encoder(folder: Path, _info: BundleInfo, _threads: int) -> Scorer:
    raise ModelError(
        "an encoder answers no signal by itself",
        got=str(folder),
        remedy="make a model of it: give it to trunk, or to fine_tune as its base",
    )


def _static(folder: Path, info: BundleInfo, _threads: int) -> Scorer:
    from modelmill.models.static import StaticScorer

    return StaticScorer(folder, info)


_FORMATS: Mapping[str, Callable[[Path, BundleInfo, int], Scorer]] = {
    "onnx": _onnx,
    "torch": _torch,
    "torchao": _torchao,
    "head": _head,
    "trunk": _trunk,
    "encoder": _encoder,
    "static": _static,
}


def load_scorer(folder: Path, *, threads: int | None = None) -> Scorer:
    """Load a model bundle for scoring.

    :param folder: the bundle.
    :param threads: rows that an ONNX model scores at the same time; None: one per core that this process may
        use. PyTorch has a setting of its own, ``torch.set_num_threads``.
    :return: the scorer.
    :raises ModelError: if the folder is no bundle, or its files cannot be loaded.
    """
    info = BundleInfo.load(folder)
    return _FORMATS[info.format](folder, info, threads or usable_cores())


def score_into(
    target: FloatArray, scorer: Scorer, tokens: Tokens, *, progress: Callable[[float, float], None]
) -> None:
    """Score many rows, and say how far it is.

    :param target: where the logits go, ``(rows, classes)``.
    :param scorer: the model.
    :param tokens: the rows, as the model's tokenizer makes them.
    :param progress: called with the rows done and the rows in all.
    """
    # In order of length, or each chunk would have its own long rows to wait for.
    order = np.argsort(tokens.lengths, kind="stable")
    for start in range(0, len(order), _CHUNK_ROWS):
        rows = order[start : start + _CHUNK_ROWS]
        target[rows] = scorer.score(tokens.take(rows))
        progress(start + len(rows), len(order))
