"""The demo's corpora: Orange's three header lines, long cells, and content that is not what it was."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import pytest

from demo import samples

HEADER = "Category\tText\nd\tstring\nclass\t\n\n"


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        (HEADER + "x\tone\ny\ttwo\n", [("x", "one"), ("y", "two")]),
        (HEADER.replace("\n", "\r\n") + "x\tone\r\n", [("x", "one")]),
        (HEADER.replace("\n\n", "\n\t\n") + "x\tone", [("x", "one")]),
        ("Title\tText\tTopic\nd\tstring\tdiscrete\nmeta\tinclude=True\tclass\na\tone\tx\n", [("x", "one")]),
        (HEADER + 'x\t"one\tand ""two""\nthree"\n', [("x", 'one\tand "two"\nthree')]),
        (HEADER + f"x\t{'long ' * 100_000}\n", [("x", "long " * 100_000)]),
        (HEADER, []),
    ],
)
def test_a_table_of_orange_is_read(text: str, rows: list[tuple[str, str]]) -> None:
    limit = csv.field_size_limit()
    assert list(samples.orange_rows(text.encode())) == rows
    assert csv.field_size_limit() >= limit  # the whole process shares it


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "one class and one column of strings"),
        ("x\tone\ny\ttwo\nx\tthree\n", "one class and one column of strings"),
        (HEADER + "x\tone\tmore\n", "line 5 must have 2 cells; got 3"),
        (HEADER + "x\n", "line 5 must have 2 cells; got 1"),
    ],
)
def test_a_table_of_another_shape_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        list(samples.orange_rows(text.encode()))


def test_a_corpus_is_written_only_if_it_is_what_it_was(tmp_path: Path) -> None:
    content = (HEADER + "x\tone\ny\ttwo\n").encode()
    digest, target = hashlib.sha256(content).hexdigest(), tmp_path / "train.jsonl"
    samples.write_landing(content, samples.Table(digest, 2), "train", target)
    assert [json.loads(line) for line in target.read_text().splitlines()] == [
        {"id": "train-00000", "topic": "x", "text": "one", "split": "train"},
        {"id": "train-00001", "topic": "y", "text": "two", "split": "train"},
    ]
    with pytest.raises(SystemExit, match="SHA-256 of train must be"):
        samples.write_landing(content + b"\n", samples.Table(digest, 2), "train", target)
    with pytest.raises(SystemExit, match="must have 3 rows; got 2"):
        samples.write_landing(content, samples.Table(digest, 3), "train", target)
