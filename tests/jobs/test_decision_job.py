"""The decision job: the same decisions as in process, each key once, whatever dies."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from modelmill.artifacts import TableRef
from modelmill.errors import TableError
from modelmill.rules.frames import one_batch
from modelmill.rules.lifecycle.table_decider import TableDecider
from modelmill.rules.lifecycle.table_decisions import DecideTableRequest, table_decider
from modelmill.rules.pinned_rule_set import pin_rule_set
from modelmill.rules.reading import parse_rule_set
from modelmill.settings import Settings
from modelmill.tables.reading import read_arrow
from modelmill.tables.storage import table_exists
from modelmill_jobs import decide

RULES = """
rule_set: moderation
key: id
signals:
  offer: {kind: phrases, column: odd name.x, phrases: [free money]}
  digits: {kind: measured, function: digits, columns: [odd name.x]}
  trade: {kind: model, column: odd name.x, model: MODEL, label: trade}
  size: {kind: column}
rules:
  - {name: offer, when: offer, then: remove, severity: high, reason: "{size} letters"}
  - {name: trade, when: trade > 0.6 AND digits < 0.5, then: review}
default: allow
on_unknown: look
"""
TEXTS = ["FREE money 123", "bank share", "goal", None, "bank", "é free  money", ""]
ROWS = 500


@pytest.fixture
def source(tmp_path: Path) -> TableRef:
    texts = [TEXTS[number % len(TEXTS)] for number in range(ROWS)]
    sizes = [len(text or "") for text in texts]
    rows = pa.table({"id": list(range(ROWS)), "odd name.x": texts, "size": sizes, "day": ["a"] * ROWS})
    write_deltalake(str(tmp_path / "in"), rows, partition_by=["day"])
    return TableRef(uri=str(tmp_path / "in"), version=0)


@pytest.fixture
def decider(source: TableRef, make_bundle: Callable[..., Path]) -> TableDecider:
    rule_set = parse_rule_set(RULES.replace("MODEL", str(make_bundle("a"))))
    settings = Settings.from_environment()
    return table_decider(pin_rule_set(rule_set, settings), source, settings, keep=["day"])


def request_for(
    source: TableRef, decider: TableDecider, tmp_path: Path, key: str = "k"
) -> DecideTableRequest:
    return DecideTableRequest(table=source, decider=decider, to=str(tmp_path / "out"), transaction=key)


@pytest.mark.parametrize("engine", ["sail", pytest.param("jvm", marks=pytest.mark.jvm)])
def test_the_job_decides_as_the_engine_does(
    engine: str, request: pytest.FixtureRequest, source: TableRef, decider: TableDecider, tmp_path: Path
) -> None:
    spark = request.getfixturevalue(engine)
    result = decide.main(request_for(source, decider, tmp_path), spark)
    assert result.rows == ROWS
    found = read_arrow(result.table).sort_by("id")
    rows = one_batch(read_arrow(source))
    expected = decider.decide(decider.engine(rows.schema), rows)
    assert found.to_pylist() == sorted(expected.to_pylist(), key=lambda row: row["id"])
    assert set(found["decision"].to_pylist()) == {"remove", "review", "allow", "look"}
    assert decide.main(request_for(source, decider, tmp_path), spark) == result


def test_keys_that_are_not_unique_are_refused(
    sail: Any, source: TableRef, decider: TableDecider, tmp_path: Path
) -> None:
    write_deltalake(source.uri, read_arrow(source).slice(0, 2), mode="append", partition_by=["day"])
    twice = TableRef(uri=source.uri, version=1)
    with pytest.raises(TableError, match="belongs to one row"):
        decide.main(request_for(twice, decider, tmp_path), sail)
    assert not table_exists(str(tmp_path / "out"))


def test_more_keys_than_the_engine_can_group_are_checked_part_by_part(
    sail: Any, source: TableRef, decider: TableDecider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, asked = decide._counted, list[int]()

    def counted(rows: Any, column: Any) -> Any:
        found = whole(rows, column)
        asked.append(found[1])
        if found[1] == max(asked):
            raise RuntimeError("Failed to allocate additional 8.0 MB for AggregateStream[0]")
        return found

    monkeypatch.setattr(decide, "_counted", counted)
    monkeypatch.setattr(decide, "_KEYS_AT_ONCE", ROWS // 4)
    assert decide.main(request_for(source, decider, tmp_path), sail).rows == ROWS
    assert len(asked) >= 5
    assert sum(asked[1:]) == asked[0] == ROWS  # each key is in one part
    write_deltalake(source.uri, read_arrow(source).slice(0, 2), mode="append", partition_by=["day"])
    asked.clear()
    twice = TableRef(uri=source.uri, version=1)
    with pytest.raises(TableError, match="belongs to one row"):
        decide.main(request_for(twice, decider, tmp_path, key="twice"), sail)
    assert len(asked) >= 5
    monkeypatch.setattr(decide, "_counted", lambda _rows, _column: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # what else goes wrong is not tried again
        decide.main(request_for(source, decider, tmp_path, key="wrong"), sail)


# A process that kills itself at some point of the job.
KILLED = """
import os, signal, sys
from modelmill.jobs import run_as_application
from modelmill.rules.lifecycle.table_decisions import DecideTableRequest
from modelmill_jobs import decide, writing

when = sys.argv.pop(1)
commit = writing.commit_files

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def decide_and_die(batches, **more):
    for batch in batches:
        die()
        yield batch

def die_or_commit(*args, **more):
    if when == "before the commit":
        die()
    commit(*args, **more)
    die()

if when == "in a worker":
    decide.decide_partition = decide_and_die
writing.commit_files = die_or_commit
run_as_application(DecideTableRequest, decide.main)
"""


@pytest.mark.parametrize("when", ["in a worker", "before the commit", "after the commit"])
def test_a_killed_job_is_simply_done_again(
    sail: Any, source: TableRef, decider: TableDecider, tmp_path: Path, when: str
) -> None:
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    request = request_for(source, decider, tmp_path).model_dump_json()
    argv = [sys.executable, str(script), when, "--request", request]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    assert table_exists(str(tmp_path / "out")) == (when == "after the commit")
    result = decide.main(request_for(source, decider, tmp_path), sail)
    assert result.table.version == 0
    keys = read_arrow(result.table)["id"].to_pylist()
    assert sorted(keys) == list(range(ROWS))
