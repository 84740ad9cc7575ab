"""The fast encoder is used where it gives the ids of ``tokenizers``, and nowhere else."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from modelmill.tokens.encoders import FIRST_ROWS, FastEncoder, ReferenceEncoder, UnsuitableError

TEXTS = [
    "",
    "goals, matching banks",
    "the goal " * 20,
    "caf\u00e9 \u4e2d\u6587 \U0001f600 \x00\u200b\u0301",
    "a [SEP] b[CLS]c [sep]",
    "x" * 101,
]


@pytest.mark.parametrize("max_length", [8, 16, 512])
@pytest.mark.parametrize("special", [True, False], ids=["special", "plain"])
def test_both_encoders_give_the_same_ids(make_tokenizer, max_length: int, special: bool) -> None:
    folder = make_tokenizer(special=special)
    texts = pa.array(TEXTS)
    fast = FastEncoder(folder, max_length=max_length).encode(texts)
    slow = ReferenceEncoder(folder, max_length=max_length).encode(texts)
    assert [row.tolist() for row in fast] == [row.tolist() for row in slow]
    assert fast.lengths.max() == min(max_length, 101 if not special else 103, 512) or max_length == 512
    assert fast.lengths.min() == (2 if special else 1), "an empty text has a token too"


def test_ids_are_stored_in_the_narrowest_type(make_tokenizer) -> None:
    assert FastEncoder(make_tokenizer(), max_length=8).dtype is np.uint16
    assert ReferenceEncoder(make_tokenizer("other"), max_length=8).dtype is np.uint16
    wide = make_tokenizer("wide")
    content = json.loads((wide / "tokenizer.json").read_text())
    content["model"]["vocab"]["goal"] = 70_000
    (wide / "tokenizer.json").write_text(json.dumps(content))
    encoder = FastEncoder(wide, max_length=8)
    assert encoder.dtype is np.uint32
    assert encoder.encode(pa.array(["goal"]))[0].tolist() == [2, 70_000, 3]


def refused(folder: Path, max_length: int = 16) -> str:
    with pytest.raises(UnsuitableError) as caught:
        FastEncoder(folder, max_length=max_length)
    return str(caught.value)


def test_other_kinds_of_tokenizers_are_not_for_it(tiny_base_model: Path) -> None:
    assert refused(tiny_base_model).startswith(
        'it cannot read this tokenizer.json (unsupported tokenizer: model type "WordLevel"'
    )


def test_a_length_that_it_refuses_is_not_for_it(make_tokenizer) -> None:
    assert refused(make_tokenizer(), max_length=1).startswith("it fails (")


def test_a_missing_package_is_said(make_tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nanotoken", None)
    assert refused(make_tokenizer()) == "it is not installed"


def test_a_difference_is_found_before_the_first_row(make_tokenizer) -> None:
    assert refused(make_tokenizer(wrong=True)).startswith(
        "its ids differ from those of tokenizers for the text 'a match bmatchc  matchmatch "
    )


def test_a_difference_is_found_among_the_first_rows(make_tokenizer) -> None:
    # More added tokens than are looked at: only the dataset's own rows show what is wrong with the last one.
    encoder = FastEncoder(make_tokenizer(wrong=True, more=5001), max_length=16)
    texts = ["goals"] * 250 + ["a match"] + ["banks"] * (FIRST_ROWS - 251)
    with pytest.raises(UnsuitableError) as caught:
        encoder.encode(pa.array(texts))
    assert str(caught.value) == "its ids differ from those of tokenizers for the text 'a match'"


@pytest.mark.parametrize(
    "odd", ["a match", "a" * 200 + " match", "match \u00e9"], ids=["short", "long", "accent"]
)
def test_a_difference_is_found_in_a_later_batch(make_tokenizer, odd: str) -> None:
    encoder = FastEncoder(make_tokenizer(wrong=True, more=5001), max_length=512)
    usual = ["the bank of goals"] * 5000
    assert len(encoder.encode(pa.array(usual))) == 5000
    assert len(encoder.encode(pa.array(usual))) == 5000
    # The shortest, the longest and the least English rows are always among those that are compared.
    with pytest.raises(UnsuitableError, match="its ids differ"):
        encoder.encode(pa.array([*usual, odd]))
