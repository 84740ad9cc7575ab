"""Static models: the features are what they say, and an answer depends on its own text alone."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelmill.compression.static import fit_static, soft_targets
from modelmill.errors import ModelError
from modelmill.models.bundle import BundleInfo, bundle_bytes
from modelmill.models.scorers import load_scorer
from modelmill.models.static import (
    StaticScorer,
    Table,
    pair_counts,
    token_counts,
    weigh,
    write_static,
    write_tables,
)
from modelmill.tasks.kinds import task_of
from modelmill.tokens.token_ids import Tokens
from modelmill.tokens.tokenizer import encode, load_tokenizer


@pytest.fixture
def fitted(tiny_base_model: Path, tmp_path: Path, topic_rows: Any) -> tuple[Path, list[str], list[str]]:
    rows = topic_rows(80)
    texts, topics = [text for text, _ in rows], [topic for _, topic in rows]
    folder = tmp_path / "static"
    folder.mkdir()
    shutil.copyfile(tiny_base_model / "tokenizer.json", folder / "tokenizer.json")
    tokenizer = load_tokenizer(tiny_base_model, max_tokens=32)
    labels = np.array([("sport", "trade").index(topic) for topic in topics])
    teacher = np.stack([1.0 - labels, labels], axis=1).astype(np.float32) * 8
    targets = soft_targets(teacher, labels, task=task_of("class"), temperature=2.0, soft_weight=0.5)
    size = tokenizer.get_vocab_size()
    model = fit_static(encode(tokenizer, texts), targets, vocabulary=size, pairs=64)
    classes = ("sport", "trade")
    write_static(folder, model.tables, model.bias, label="topic", classes=classes, text="body", max_tokens=32)
    assert BundleInfo.load(folder).parameters == 3 * (size + 64) + 2
    return folder, texts, topics


def test_it_learns_and_is_batch_invariant_to_the_bit(fitted: tuple[Path, list[str], list[str]]) -> None:
    folder, texts, topics = fitted
    scorer = load_scorer(folder)
    assert isinstance(scorer, StaticScorer)
    assert scorer.predict(texts) == topics
    hard = [*texts, "", "word " * 300, "\u4e2d\u6587", texts[0]]
    together = scorer.logits(hard)
    alone = np.concatenate([scorer.logits([text]) for text in hard])
    backwards = scorer.logits(hard[::-1])[::-1]
    assert together.tobytes() == alone.tobytes() == np.ascontiguousarray(backwards).tobytes()
    assert np.isfinite(together).all()
    assert scorer.logits([]).shape == (0, 2)
    assert scorer.score(encode(load_tokenizer(folder, max_tokens=32), texts)).tobytes() == (
        scorer.logits(texts).tobytes()
    )


def test_features_are_those_of_scikit_learn() -> None:
    from sklearn.feature_extraction.text import TfidfTransformer

    random = np.random.default_rng(0)
    tokens = Tokens.of([random.integers(0, 20, size) for size in (1, 5, 30, 200)])
    counts = token_counts(tokens, vocabulary=20)
    expected = TfidfTransformer(sublinear_tf=True).fit(counts)
    found = weigh([counts.copy()], [expected.idf_.astype(np.float32)])[0]
    assert np.allclose(found.toarray(), expected.transform(counts).toarray(), atol=1e-6)


def test_pairs_are_neighbours_within_a_row() -> None:
    tokens = Tokens.of([[1, 2, 3], [4], [1, 2], [2, 1], [3, 4]])
    counts = pair_counts(tokens, buckets=1 << 16)
    assert counts.sum(axis=1).ravel().tolist() == [[2, 0, 1, 1, 1]]
    first, second, swapped = (counts[row].indices for row in (0, 2, 3))
    assert set(second) < set(first)
    assert set(swapped).isdisjoint(second)
    taken = tokens.take(np.array([2, 0]))  # the buffer holds other rows in between
    assert (pair_counts(taken, buckets=1 << 16) != counts[[2, 0]]).nnz == 0


def test_half_the_bytes_give_the_same_answers(fitted: tuple[Path, list[str], list[str]]) -> None:
    folder, texts, topics = fitted
    whole = load_scorer(folder)
    assert isinstance(whole, StaticScorer)
    size = bundle_bytes(folder)
    from modelmill.models.static import read_tables

    tables, bias = read_tables(folder, whole.info)
    write_tables(folder, tables, bias, dtype=np.float16)
    half = load_scorer(folder)
    assert bundle_bytes(folder) < 0.7 * size
    assert half.predict(texts) == topics
    assert np.allclose(half.logits(texts), whole.logits(texts), atol=0.05)


def test_an_encoder_that_errs_is_left(
    fitted: tuple[Path, list[str], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from modelmill.tokens.encoders import FastEncoder

    folder, texts, topics = fitted
    scorer = load_scorer(folder)
    scorer.logits(texts[:1])
    monkeypatch.setattr(FastEncoder, "encode_unchecked", lambda self, texts: Tokens.of([[1]] * len(texts)))
    monkeypatch.setattr("modelmill.models.static._CHECK_EVERY", 1)
    assert scorer.predict(texts) == topics


def test_tables_that_do_not_fit_are_refused(fitted: tuple[Path, list[str], list[str]]) -> None:
    folder, _, _ = fitted
    few = [Table(np.ones(3, np.float32), np.ones((3, 2), np.float32))]
    write_tables(folder, few, np.zeros(2, np.float32))
    with pytest.raises(ModelError, match="a weight for each token, 24; got 3"):
        load_scorer(folder)
    write_tables(folder, few, np.zeros(3, np.float32))
    with pytest.raises(ModelError, match="must have the shapes"):
        load_scorer(folder)
    (folder / "model.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(ModelError, match="must hold idf, weight and bias"):
        load_scorer(folder)
