"""Decisions through the API: found by their key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake

Call = Callable[[str], Any]


@pytest.fixture(name="table")
def _table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A table below the place of the tables."""
    monkeypatch.setenv("MODELMILL_PARAM_DATA", str(tmp_path))
    monkeypatch.delenv("MODELMILL_TABLES", raising=False)
    rows = {"id": ["a", "b"], "number": [1, 2], "text": ["An offer", "an OFFER"], "more": [[1], [2]]}
    write_deltalake(str(tmp_path / "texts"), pa.table(rows))
    return "${data}/texts"


def test_a_decision_is_found_by_its_key(call: Call, table: str) -> None:
    answer = call("user")("GET", f"/decisions?uri={table}&column=id&key=b")
    assert answer.status_code == 200, answer.text
    [row] = answer.json()["rows"]
    assert row == {"decision": {"id": "b", "text": "an OFFER", "number": 2, "more": "[2]"}, "text": ""}
    assert not answer.json()["is_cut"]
    gone = call("user")("GET", f"/decisions?uri={table}&column=id&key=z")
    assert (gone.status_code, "a row with this key" in gone.json()["message"]) == (422, True)
    wrong = call("user")("GET", f"/decisions?uri={table}&column=idd&key=z")
    assert "did you mean 'id'" in wrong.json()["message"]
    number = call("user")("GET", f"/decisions?uri={table}&column=number&key=1")
    assert [row["decision"]["id"] for row in number.json()["rows"]] == ["a"]
    nested = call("user")("GET", f"/decisions?uri={table}&column=more&key=1")
    assert "a key is one value" in nested.json()["message"]


def test_a_list_that_was_cut_says_so(call: Call, table: str, tmp_path: Path) -> None:
    for count, is_cut in ((100, False), (101, True)):
        write_deltalake(str(tmp_path / f"rows_{count}"), pa.table({"id": ["a"] * count}))
        found = call("user")("GET", f"/decisions?uri=${{data}}/rows_{count}&column=id&key=a").json()
        assert (len(found["rows"]), found["is_cut"]) == (100, is_cut)
