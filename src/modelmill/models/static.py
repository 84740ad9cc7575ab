"""Static models: a weight for each token and class, summed up. No layers, no attention, no padding.

The features are those of :mod:`modelmill.models.lexical`: TF-IDF over token ids (sublinear term frequency,
smoothed idf, rows of length 1); optionally pairs of neighbouring tokens as well, hashed into a table of fixed
size (K. Weinberger et al., "Feature Hashing for Large Scale Multitask Learning", 2009, arXiv 0902.2206). A
row is computed from its own tokens alone, in a fixed order: an answer cannot depend on other rows.

``model.safetensors`` holds for the tokens, and with the prefix ``pair_`` for the pairs, ``idf``
``(features,)`` and ``weight`` ``(features, classes)``; and ``bias`` ``(classes,)``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modelmill.datasets.options import LabelKind
from modelmill.errors import ModelError
from modelmill.models.bundle import BundleInfo
from modelmill.models.scorer import Scorer
from modelmill.tasks.calibration import FloatArray
from modelmill.tokens.contents import Content, TextReader
from modelmill.tokens.token_ids import Tokens
from modelmill.tokens.tokenizer import encode, load_tokenizer, tokenizer_digest

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from modelmill.tokens.encoders import FastEncoder

WEIGHTS_FILE = "model.safetensors"
_FIRST_FACTOR, _SECOND_FACTOR = np.uint32(0x9E3779B1), np.uint32(0x85EBCA77)
"""Odd multipliers of the hash: those of xxHash32."""
_CHECK_EVERY = 4096
"""One of so many texts is compared with the reference tokenizer."""
_FREQUENCY = (1.0 + np.log(np.arange(1, 8193))).astype(np.float32)
"""Term frequency by count: looked up, so that equal counts are equal bits wherever they stand."""


@dataclass(frozen=True)
class Table:
    """The weights of one kind of feature."""

    idf: FloatArray
    """``(features,)``."""
    weight: FloatArray
    """``(features, classes)``."""


def token_counts(tokens: Tokens, *, vocabulary: int) -> csr_matrix:
    """Count the tokens of each row.

    :param tokens: the rows.
    :param vocabulary: number of token ids; every id is below it.
    :return: ``(rows, vocabulary)``, float32, sorted, without duplicates.
    """
    return _counts(tokens.flat().astype(np.int32), tokens.lengths, columns=vocabulary)


def pair_counts(tokens: Tokens, *, buckets: int) -> csr_matrix:
    """Count the pairs of neighbouring tokens of each row.

    :param tokens: the rows.
    :param buckets: size of the table that pairs are hashed into: a power of two, at least 2.
    :return: ``(rows, buckets)``, float32, sorted, without duplicates.
    """
    ids = tokens.flat().astype(np.uint32)
    ends = np.cumsum(tokens.lengths)
    inside = np.ones(max(len(ids) - 1, 0), dtype=np.bool_)
    inside[ends[:-1] - 1] = False  # the last token of a row and the first of the next are no pair
    mixed = ids[:-1] * _FIRST_FACTOR ^ ids[1:] * _SECOND_FACTOR
    mixed = (mixed ^ mixed >> np.uint32(15)) * _FIRST_FACTOR
    found = (mixed >> np.uint32(33 - buckets.bit_length())).astype(np.int32)
    return _counts(found[inside], tokens.lengths - 1, columns=buckets)


def _counts(columns_of: Any, lengths: Any, *, columns: int) -> csr_matrix:
    from scipy.sparse import csr_matrix

    bounds = np.concatenate([[0], np.cumsum(lengths)])
    ones = np.ones(len(columns_of), dtype=np.float32)
    counts = csr_matrix((ones, columns_of, bounds), shape=(len(lengths), columns))
    counts.sum_duplicates()
    return counts


def weigh(counts: Sequence[csr_matrix], idfs: Sequence[FloatArray]) -> list[csr_matrix]:
    """Turn counts into features: sublinear frequency times idf, all kinds of a row together of length 1.

    :param counts: for each kind of feature ``(rows, features)``; changed in place.
    :param idfs: for each kind ``(features,)``.
    :return: for each kind ``(rows, features)``.
    """
    square = np.zeros(counts[0].shape[0], dtype=np.float32)
    for matrix, idf in zip(counts, idfs, strict=True):
        frequency = _FREQUENCY[np.minimum(matrix.data.astype(np.int64), len(_FREQUENCY)) - 1]
        matrix.data = frequency * idf[matrix.indices]
        # As a product with ones: it adds up a row's values in their order, whatever stands beside the row.
        square += matrix.power(2) @ np.ones(matrix.shape[1], dtype=np.float32)
    norm = np.sqrt(np.maximum(square, np.float32(1e-24)))
    for matrix in counts:
        matrix.data /= np.repeat(norm, np.diff(matrix.indptr))
    return list(counts)


class StaticScorer(Scorer):
    """A ``static`` bundle, in NumPy and SciPy: batch-invariant to the bit.

    Texts are tokenised by ``nanotoken`` as long as it gives the ids of ``tokenizers``, see
    :mod:`modelmill.tokens.encoders`: at this speed the tokenizer is what takes the time.

    :param folder: the bundle.
    :param info: what it says of itself.
    :raises ModelError: if its tables do not fit its tokenizer or its classes.
    """

    def __init__(self, folder: Path, info: BundleInfo) -> None:
        self._tokenizer = load_tokenizer(folder, max_tokens=info.max_tokens)
        super().__init__(info, TextReader(self._tokenizer))
        self._tables, self._bias = read_tables(folder, info)
        if self._tokenizer.get_vocab_size() > len(self._tables[0].idf):
            raise ModelError(
                f"a static model must have a weight for each token, {self._tokenizer.get_vocab_size()}",
                got=len(self._tables[0].idf),
                remedy="make the model again with modelmill",
            )
        self._folder = folder
        self._fast: FastEncoder | None = None
        self._started = False
        self._seen = 0

    def score(self, tokens: Tokens) -> FloatArray:
        """See :meth:`Scorer.score`."""
        return summed(tokens, self._tables, self._bias)

    def logits(self, contents: Sequence[Content]) -> FloatArray:
        """See :meth:`Scorer.logits`."""
        return self.score(self._encode([str(text) for text in contents]))

    def _encode(self, texts: Sequence[str]) -> Tokens:
        from modelmill.tokens.encoders import FastEncoder, UnsuitableError

        try:
            if not self._started:
                self._started = True
                self._fast = FastEncoder(self._folder, max_length=self.info.max_tokens)
            if self._fast is not None and len(texts):
                objects = np.array(texts, dtype=object)
                found = self._fast.encode_unchecked(objects)
                chosen = np.arange(-self._seen % _CHECK_EVERY, len(texts), _CHECK_EVERY)
                self._seen += len(texts)
                self._fast.compare(objects[chosen], found.take(chosen))
                return found
        except UnsuitableError:
            self._fast = None
        return encode(self._tokenizer, texts)


class StaticStack:
    """Static models with the same features, such as students for many signals: a text is counted once.

    :param bundles: folder and facts of each; all of one :func:`features_digest`.
    """

    def __init__(self, bundles: Sequence[tuple[Path, BundleInfo]]) -> None:
        read = [read_tables(folder, info) for folder, info in bundles]
        self._bias = np.concatenate([bias for _, bias in read])
        self._tables = [
            Table(same[0].idf, np.hstack([table.weight for table in same]))
            for same in zip(*(tables for tables, _ in read), strict=True)
        ]

    def score(self, tokens: Tokens) -> FloatArray:
        """Return the logits of all models.

        :param tokens: any number of rows.
        :return: ``(rows, classes of all models)``.
        """
        return summed(tokens, self._tables, self._bias)


def features_digest(folder: Path, info: BundleInfo) -> str:
    """Return what static models have in common that read the same features of a text.

    :param folder: the bundle of one.
    :param info: what it says of itself.
    :return: SHA-256 of its tokenizer and of what each feature counts.
    """
    tables, _ = read_tables(folder, info)
    found = hashlib.sha256(f"{tokenizer_digest(folder)} {info.max_tokens}".encode())
    for table in tables:
        found.update(np.ascontiguousarray(table.idf).tobytes())
    return found.hexdigest()


def summed(tokens: Tokens, tables: Sequence[Table], bias: FloatArray) -> FloatArray:
    """Add up what the features of each row weigh.

    :param tokens: any number of rows.
    :param tables: tokens, and pairs if there are any.
    :param bias: ``(classes,)``.
    :return: ``(rows, classes)``.
    """
    if not len(tokens):
        return np.zeros((0, len(bias)), dtype=np.float32)
    features = weigh(count_all(tokens, tables), [table.idf for table in tables])
    result: FloatArray = np.tile(bias, (len(tokens), 1))  # (rows, classes)
    for matrix, table in zip(features, tables, strict=True):
        result += matrix @ table.weight
    return result


def count_all(tokens: Tokens, tables: Sequence[Table]) -> list[csr_matrix]:
    """Count the features of each kind that a model has.

    :param tokens: at least one row.
    :param tables: tokens, and pairs if it has them.
    :return: counts for each table.
    """
    counts = [token_counts(tokens, vocabulary=len(tables[0].idf))]
    return [*counts, *(pair_counts(tokens, buckets=len(table.idf)) for table in tables[1:])]


def write_tables(folder: Path, tables: Sequence[Table], bias: FloatArray, *, dtype: Any = np.float32) -> None:
    """Write ``model.safetensors`` of a static bundle.

    :param folder: the bundle.
    :param tables: tokens, and pairs if it has them.
    :param bias: ``(classes,)``.
    :param dtype: of the weights in the file.
    """
    from safetensors.numpy import save_file

    content = {"bias": bias.astype(np.float32)}
    for prefix, table in zip(("", "pair_"), tables, strict=False):
        content[f"{prefix}idf"] = np.ascontiguousarray(table.idf, dtype=dtype)
        content[f"{prefix}weight"] = np.ascontiguousarray(table.weight, dtype=dtype)
    save_file(content, folder / WEIGHTS_FILE)


def write_static(
    folder: Path,
    tables: Sequence[Table],
    bias: FloatArray,
    *,
    label: str,
    classes: Sequence[str],
    text: str,
    max_tokens: int,
    target: LabelKind = "class",
    dtype: Any = np.float32,
) -> None:
    """Write a static bundle, but for its tokenizer.

    :param folder: the bundle.
    :param tables: tokens, and pairs if it has them.
    :param bias: ``(classes,)``.
    :param label: name of what it answers.
    :param classes: its answers, in the order of the bias.
    :param text: name of the column that it reads.
    :param max_tokens: tokens of a text that it reads.
    :param target: kind of label.
    :param dtype: of the weights in the file.
    """
    write_tables(folder, tables, bias, dtype=dtype)
    BundleInfo(
        format="static",
        label=label,
        classes=tuple(classes),
        target=target,
        text=text,
        max_tokens=max_tokens,
        parameters=bias.size + sum(table.idf.size + table.weight.size for table in tables),
    ).save(folder)


def read_tables(folder: Path, info: BundleInfo) -> tuple[list[Table], FloatArray]:
    """Read ``model.safetensors`` of a static bundle.

    :param folder: the bundle.
    :param info: what it says of itself.
    :return: tables of tokens, and of pairs if it has them; the bias ``(classes,)``.
    :raises ModelError: if it cannot be read, or its shapes do not go together.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        content: Mapping[str, FloatArray] = load_file(folder / WEIGHTS_FILE)
        tables = [
            Table(content[f"{prefix}idf"].astype(np.float32), content[f"{prefix}weight"].astype(np.float32))
            for prefix in ("", "pair_")
            if not prefix or f"{prefix}idf" in content
        ]
        bias = content["bias"]
    except (SafetensorError, OSError, KeyError) as error:
        raise ModelError(
            f"{WEIGHTS_FILE} of a static model must hold idf, weight and bias ({type(error).__name__})",
            got=str(folder),
            remedy="make the model again with modelmill",
        ) from error
    wanted = [(len(table.idf), info.outputs) for table in tables]
    found = [table.weight.shape for table in tables]
    if found != wanted or bias.shape != (info.outputs,):
        raise ModelError(
            f"the tables of a static model must have the shapes {wanted}",
            got=found,
            remedy="make the model again with modelmill",
        )
    return tables, bias
