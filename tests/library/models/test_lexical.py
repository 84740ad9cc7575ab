"""The lexical head computes what scikit-learn computes, inside the graph."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.svm import LinearSVC

from modelmill.models.lexical import UNFITTED_SCALES, fit_lexical_head, fit_scales
from modelmill.tokens.token_ids import Tokens

VOCABULARY = 50


def corpus(classes: int) -> tuple[list[np.ndarray], np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, 120)
    labels[:classes] = range(classes)
    ids = [rng.integers(5 * label, 5 * label + 20, rng.integers(1, 30)) for label in labels]
    return ids, labels


def padded(ids: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(map(len, ids)) + 3
    tokens, mask = np.zeros((len(ids), width), np.int64), np.zeros((len(ids), width), np.int64)
    for row, value in enumerate(ids):
        tokens[row, : len(value)], mask[row, : len(value)] = value, 1
    return torch.from_numpy(tokens), torch.from_numpy(mask)


@pytest.mark.parametrize("classes", [2, 3, 6])
def test_decision_values_are_those_of_scikit_learn(classes: int) -> None:
    ids, labels = corpus(classes)
    head = fit_lexical_head(Tokens.of(ids), labels, vocabulary=VOCABULARY, classes=classes)
    vectorizer = TfidfVectorizer(sublinear_tf=True, analyzer=lambda row: [str(token) for token in row])
    expected = LinearSVC(random_state=0).fit(vectorizer.fit_transform(ids), labels)
    wanted = expected.decision_function(vectorizer.transform(ids))
    if classes == 2:
        wanted = np.stack([-wanted, wanted], 1) / 2
    np.testing.assert_allclose(head(*padded(ids)).numpy(), wanted, atol=2e-3)


def test_padding_changes_nothing() -> None:
    ids, labels = corpus(3)
    head = fit_lexical_head(Tokens.of(ids), labels, vocabulary=VOCABULARY, classes=3)
    alone = torch.cat([head(*padded([row])) for row in ids])
    torch.testing.assert_close(alone, head(*padded(ids)), atol=1e-5, rtol=1e-5)


def test_scales_prefer_the_witness_that_is_right() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 2000)
    right = np.eye(3, dtype=np.float32)[labels]
    noise = rng.normal(size=(2000, 3)).astype(np.float32)
    encoder_right, lexical_noise = fit_scales(right, noise, labels)
    encoder_noise, lexical_right = fit_scales(noise, right, labels)
    assert encoder_right > lexical_noise
    assert lexical_right > 10 * encoder_noise


def test_without_validation_rows_the_scales_are_the_defaults() -> None:
    empty = np.zeros((0, 3), np.float32)
    assert fit_scales(empty, empty, np.zeros(0, np.int64)) == UNFITTED_SCALES
