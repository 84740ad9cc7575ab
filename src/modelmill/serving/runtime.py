"""Scoring texts with a model bundle, whatever its format: what gates, services and Spark workers run.

An ONNX bundle runs one row at a time, one thread a row: there is no padding to compute, and the answer to a
text cannot depend on the texts that come with it. (A graph that quantises its activations as they come takes
one scale for a whole batch, so in a batch an answer would change with its neighbours.)
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from modelmill.data.tokens import Tokens
from modelmill.errors import ModelError
from modelmill.serving.bundle import BundleInfo

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FloatArray = npt.NDArray[np.float32]

_BATCH_ROWS = 32
_CHUNK_ROWS = 512
"""Rows between two reports of progress: whole batches."""
_MAX_THREADS = 16


class Scorer(ABC):
    """A loaded model bundle.

    :param info: what the bundle says of itself.
    :param tokenizer: see :func:`load_tokenizer`.
    """

    def __init__(self, info: BundleInfo, tokenizer: Tokenizer) -> None:
        self.info = info
        self._tokenizer = tokenizer

    @abstractmethod
    def score(self, tokens: Tokens) -> FloatArray:
        """Return the score of each class before the softmax.

        :param tokens: any number of rows, as the bundle's tokenizer makes them of texts.
        :return: ``(rows, classes)``, in the order of the rows.
        """

    def logits(self, texts: Sequence[str]) -> FloatArray:
        """Return the score of each class before the softmax.

        :param texts: any number of texts, an empty list included.
        :return: ``(rows, classes)``, in the order of the texts.
        """
        return self.score(encode(self._tokenizer, texts))

    def probabilities(self, texts: Sequence[str]) -> FloatArray:
        """Return the softmax of the logits.

        :param texts: any number of texts.
        :return: ``(rows, classes)``; each row sums to 1.
        """
        logits = self.logits(texts).astype(np.float64)
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        result: FloatArray = (shifted / shifted.sum(axis=1, keepdims=True)).astype(np.float32)
        return result

    def predict(self, texts: Sequence[str]) -> list[str]:
        """Return the class of the highest logit; the first of equals.

        :param texts: any number of texts.
        :return: one class per text.
        """
        return [self.info.classes[index] for index in self.logits(texts).argmax(axis=1)]


class OnnxScorer(Scorer):
    """An ``onnx`` bundle in ONNX Runtime, one row at a time: batch-invariant to the bit.

    :param folder: the bundle.
    :param info: what it says of itself.
    :param threads: rows that are scored at the same time.
    """

    def __init__(self, folder: Path, info: BundleInfo, *, threads: int) -> None:
        import onnxruntime

        super().__init__(info, load_tokenizer(folder, max_tokens=info.max_tokens))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's own errors share no base class
            raise ModelError(
                f"model.onnx must be a graph that ONNX Runtime loads ({type(error).__name__})",
                got=str(folder / "model.onnx"),
                remedy="export the model again",
            ) from error
        # Threads start with the first texts: a scorer may be made before a process forks.
        self._pool: ThreadPoolExecutor | None = None
        self._threads = threads

    def score(self, tokens: Tokens) -> FloatArray:
        """See :meth:`Scorer.score`.

        :param tokens: any number of rows.
        :return: ``(rows, classes)``.
        """
        result: FloatArray = np.zeros((len(tokens), len(self.info.classes)), dtype=np.float32)

        def score(row: int) -> None:
            ids = tokens[row][None, :]  # (1, tokens)
            feed = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
            result[row] = self._session.run(["logits"], feed)[0][0]

        if self._threads == 1 or len(tokens) < 2:
            for row in range(len(tokens)):
                score(row)
        else:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="modelmill-scorer")
            # The longest first, so that no thread is left with a long one at the end.
            list(self._pool.map(score, np.argsort(-tokens.lengths, kind="stable")))
        return result


class TorchScorer(Scorer):
    """A ``torch`` bundle in PyTorch, in batches sorted by length; on the GPU if there is one.

    :param folder: the bundle.
    :param info: what it says of itself.
    """

    def __init__(self, folder: Path, info: BundleInfo) -> None:
        import torch

        from modelmill.memory import keep_freed_memory
        from modelmill.training.classifier import load_classifier

        keep_freed_memory()
        super().__init__(info, load_tokenizer(folder, max_tokens=info.max_tokens))
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model = load_classifier(folder).to(self._device).eval()

    def score(self, tokens: Tokens) -> FloatArray:
        """See :meth:`Scorer.score`.

        :param tokens: any number of rows.
        :return: ``(rows, classes)``.
        """
        from modelmill.training.classifier import forward_sorted

        result: FloatArray = np.zeros((len(tokens), len(self.info.classes)), dtype=np.float32)
        for rows, logits in forward_sorted(self._model, tokens, batch_size=_BATCH_ROWS):
            result[rows] = logits
        return result


def _onnx(folder: Path, info: BundleInfo, threads: int) -> Scorer:
    return OnnxScorer(folder, info, threads=threads)


def _torch(folder: Path, info: BundleInfo, _threads: int) -> Scorer:
    return TorchScorer(folder, info)


_FORMATS: Mapping[str, Callable[[Path, BundleInfo, int], Scorer]] = {"onnx": _onnx, "torch": _torch}


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


def agreement(student: FloatArray, teacher: FloatArray) -> float:
    """Return the share of rows to which two models of the same classes give the same answer.

    :param student: logits of one model, ``(rows, classes)``; at least one row.
    :param teacher: logits of the other for the same rows, ``(rows, classes)``.
    :return: from 0 to 1.
    """
    return float((student.argmax(axis=1) == teacher.argmax(axis=1)).mean())


def usable_cores() -> int:
    """Return the number of cores that this process may use, at most 16."""
    return max(1, min(len(os.sched_getaffinity(0)), _MAX_THREADS))


def load_tokenizer(folder: Path, *, max_tokens: int) -> Tokenizer:
    """Load ``tokenizer.json``, without padding and with the model's own limit whatever the file says.

    :param folder: the bundle, or a base model's folder.
    :param max_tokens: longer texts are cut, special tokens included.
    :return: the tokenizer.
    :raises ModelError: if the file cannot be read.
    """
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    try:
        tokenizer: Any = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise ModelError(
            f"tokenizer.json must be one that the tokenizers library reads ({error})",
            got=str(path),
            remedy="save it with PreTrainedTokenizerFast.save_pretrained",
        ) from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length=max_tokens)
    result: Tokenizer = tokenizer
    return result


def encode(tokenizer: Tokenizer, texts: Sequence[str]) -> Tokens:
    """Tokenise texts.

    :param tokenizer: see :func:`load_tokenizer`.
    :param texts: any number of texts.
    :return: ids of each text, at least one, packed.
    """
    # A tokenizer without special tokens makes nothing of an empty text; the model needs a token all the same.
    found = tokenizer.encode_batch_fast(list(texts), add_special_tokens=True)
    return Tokens.of(encoding.ids or [0] for encoding in found)
