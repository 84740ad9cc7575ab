"""Rows of token ids in one buffer."""

from __future__ import annotations

import numpy as np
import pytest

from modelmill.tokens.token_ids import Tokens

ROWS = [[5, 6, 7], [8], [9, 10, 11, 12], [13, 14]]


@pytest.fixture
def tokens() -> Tokens:
    return Tokens.of(ROWS)


def test_rows_are_as_they_were_put_in(tokens: Tokens) -> None:
    assert [row.tolist() for row in tokens] == ROWS
    assert tokens[2].dtype == np.int64
    assert tokens.flat().tolist() == [*range(5, 15)]
    assert len(Tokens.of([])) == 0
    assert Tokens.of([]).flat().tolist() == []


def test_rows_are_taken_and_cut_without_a_copy(tokens: Tokens) -> None:
    taken = tokens.take(np.array([3, 0])).cut(2)
    assert [row.tolist() for row in taken] == [[13, 14], [5, 6]]
    assert taken.flat().tolist() == [13, 14, 5, 6]
    assert taken.values is tokens.values
    assert [row.tolist() for row in tokens.take(slice(1, 3))] == [[8], [9, 10, 11, 12]]


def test_a_batch_is_padded_to_its_longest_row(tokens: Tokens) -> None:
    ids, mask = tokens.padded(np.array([0, 3, 1]))
    assert ids.tolist() == [[5, 6, 7], [13, 14, 0], [8, 0, 0]]
    assert mask.tolist() == [[1, 1, 1], [1, 1, 0], [1, 0, 0]]
    assert (ids.dtype, mask.dtype) == (np.int64, np.int64)
    # The padding of the last row would lie beyond the end of the buffer.
    assert tokens.padded(slice(2, 4))[0].tolist() == [[9, 10, 11, 12], [13, 14, 0, 0]]


def test_any_rows_of_any_buffer_are_padded_like_lists() -> None:
    random = np.random.default_rng(0)
    rows = [random.integers(0, 30_000, random.integers(1, 40)).tolist() for _ in range(200)]
    packed = Tokens.of(rows)
    narrow = Tokens(packed.values.astype(np.uint16), packed.starts, packed.lengths)
    for _ in range(20):
        batch = random.permutation(200)[:16]
        width = max(len(rows[row]) for row in batch)
        ids, mask = narrow.padded(batch)
        assert ids.tolist() == [rows[row] + [0] * (width - len(rows[row])) for row in batch]
        assert mask.sum(axis=1).tolist() == [len(rows[row]) for row in batch]
