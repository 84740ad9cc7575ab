"""A look at tables: only where it is allowed, and readable where something is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake

Call = Callable[[str], Any]


@pytest.fixture(name="lake")
def _lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The place of the tables, with one of two versions."""
    lake = tmp_path / "lake"
    monkeypatch.setenv("MODELMILL_PARAM_DATA", str(lake))
    monkeypatch.delenv("MODELMILL_TABLES", raising=False)
    rows = {
        "id": [1, 2, 3, 4],
        "text": ["x" * 1000, "b", None, "d"],
        "topic": ["sport", "trade", "sport", None],
        "image": [b"abc"] * 4,
        "score": [1.0, float("nan"), 2.0, 3.0],
    }
    write_deltalake(str(lake / "topics"), pa.table(rows))
    write_deltalake(str(lake / "topics"), pa.table(rows), mode="append")
    return lake


def test_a_table_is_shown_with_its_classes(call: Call, lake: Path) -> None:
    answer = call("user")("GET", "/tables/preview?uri=${data}/topics&label=topic&rows=2")
    assert answer.status_code == 200, answer.text
    shown = answer.json()
    assert (shown["version"], shown["rows"], shown["counted"], len(shown["sample"])) == (1, 8, 8, 2)
    assert [(column["name"], column["type"]) for column in shown["columns"]][:2] == [
        ("id", "int64"),
        ("text", "string"),
    ]
    assert shown["balance"]["topic"] == [
        {"value": "sport", "rows": 4},
        {"value": None, "rows": 2},
        {"value": "trade", "rows": 2},
    ]
    assert shown["sample"][0]["text"] == "x" * 300 + "…"
    assert shown["sample"][0]["image"] == "3 bytes"
    assert shown["sample"][1]["score"] == "nan"
    old = call("user")("GET", f"/tables/preview?uri={lake}/topics&version=0").json()
    assert (old["version"], old["rows"], old["balance"]) == (0, 4, {})


@pytest.mark.parametrize(
    "uri",
    [
        "/etc",
        "${data}/../elsewhere",
        "${data}/link",
        "${data}x/topics",
        "file:///etc",
        "file://${data}/../../etc",
        "s3://bucket/table",
        "http://169.254.169.254/latest",
        "${data}/%2e%2E/elsewhere",
        "${data}/%252e%252e/elsewhere",
        "relative",
    ],
)
def test_a_table_elsewhere_is_not_shown(uri: str, call: Call, lake: Path, tmp_path: Path) -> None:
    write_deltalake(str(tmp_path / "elsewhere"), pa.table({"secret": [1]}))
    (lake / "link").symlink_to(tmp_path / "elsewhere")
    answer = call("admin")("GET", f"/tables/preview?uri={uri}")
    assert answer.status_code == 422
    assert "secret" not in answer.text


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("uri=${data}/gone", "the table must exist"),
        ("uri=${data}/topics&version=7", "its newest version is 1"),
        ("uri=${data}/topics&label=tpoic", "did you mean 'topic'"),
        ("uri=${dta}/topics", "must name a declared parameter"),
        ("uri=${data}/plain", "it has no _delta_log"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(query: str, message: str, call: Call, lake: Path) -> None:
    (lake / "plain").mkdir()
    answer = call("user")("GET", f"/tables/preview?{query}")
    assert answer.status_code == 422
    assert message in answer.json()["message"]


def test_only_what_is_shown_is_read(call: Call, lake: Path) -> None:
    """Files behind the first rows may be of any number and size: none of their bytes is asked for."""
    from deltalake import DeltaTable

    from modelmill.tables.files import active_files

    for number in range(5):
        write_deltalake(str(lake / "long"), pa.table({"text": [f"row {number}"] * 30}), mode="append")
    first, *others = active_files(DeltaTable(str(lake / "long")), str(lake / "long"))
    for file in others:
        path = lake / "long" / file.path
        path.write_bytes(b"\0" * path.stat().st_size)
    shown = call("user")("GET", "/tables/preview?uri=${data}/long&rows=30")
    assert shown.status_code == 200, shown.text
    assert (shown.json()["rows"], len(shown.json()["sample"])) == (150, 30)
    assert call("user")("GET", "/tables/preview?uri=${data}/long&rows=31").status_code == 422
    assert first.rows == 30


def test_tables_are_listed_as_pipelines_name_them(
    call: Call, lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("deep/er/table", "_own/table", "one/two/three/four/five/table"):
        write_deltalake(str(lake / name), pa.table({"id": [1]}))
    (lake / "link").symlink_to(lake / "deep")
    answer = call("user")("GET", "/tables")
    assert answer.json() == {"uris": ["${data}/topics", "${data}/deep/er/table"], "is_complete": False}

    write_deltalake(str(tmp_path / "single"), pa.table({"id": [1]}))
    monkeypatch.setenv("MODELMILL_TABLES", f"{tmp_path}/single/,{tmp_path}/gone")
    assert call("admin")("GET", "/tables").json() == {"uris": [f"{tmp_path}/single"], "is_complete": True}


def test_a_file_becomes_a_new_table(call: Call, lake: Path) -> None:
    user = call("user")
    made = user("POST", "/tables", {"name": "mail", "text": "id,text\n1,Hello\n2,Bye\n"})
    assert made.json() == {"uri": "${data}/uploads/mail", "rows": 2, "columns": ["id", "text"]}
    shown = user("GET", "/tables/preview?uri=${data}/uploads/mail").json()
    assert shown["sample"] == [{"id": 1, "text": "Hello"}, {"id": 2, "text": "Bye"}]
    again = user("POST", "/tables", {"name": "mail", "text": "other\n1\n"})
    assert (again.status_code, "choose another name" in again.json()["message"]) == (409, True)
    wrong = user("POST", "/tables", {"name": "mail2", "text": "id,text\n1\n"})
    assert (wrong.status_code, "line 2" in wrong.json()["message"]) == (422, True)
    for name in ("../mail", "a/b", "", "A"):
        assert user("POST", "/tables", {"name": name, "text": "a\n1\n"}).status_code == 422
    assert sorted(path.name for path in (lake / "uploads").iterdir()) == ["mail"]
