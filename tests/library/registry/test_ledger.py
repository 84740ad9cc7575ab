"""The ledger takes each decision once, in one order, whoever writes; and a row that was changed is found."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from modelmill.errors import InputError, TableError
from modelmill.registry import ledger, ledger_table
from modelmill.registry.ledger import Entry, Head, LedgerRow, append, entries, head
from modelmill.settings import Settings
from modelmill.tables.commits import write_rows
from modelmill.tables.conditional_append import Proposal, append_if


def following(model: str, key: str, **changes: object) -> Callable[[Head], Entry]:
    """A row that makes the next version champion."""

    def decide(head: Head) -> Entry:
        values = {
            "action": "promote",
            "model": model,
            "from_version": head.champion,
            "to_version": (head.champion or 0) + 1,
            "digest": "d" * 64,
            "evidence": "runs:/r/gate/verdict.json",
            "pipeline": "nightly",
            "step_key": key,
        }
        return Entry.model_validate(values | changes)

    return decide


def write(settings: Settings, model: str, key: str, **changes: object) -> LedgerRow | None:
    return append(settings, model, following(model, key, **changes), step_key=key, moves_alias=False)


def test_a_row_says_who_did_what_when_and_why(settings: Settings) -> None:
    assert entries(settings) == []
    assert head(settings, "topics") == Head(last=None, settled=True)
    written = write(settings, "topics", "a", action="refuse", to_version=None, reasons=("too bad",))
    write(settings, "other", "b")
    (row,) = entries(settings, model="topics")
    assert row == written
    assert (row.action, row.reasons, row.number) == ("refuse", ("too bad",), 1)
    assert abs(datetime.now(UTC) - row.time) < timedelta(minutes=5)
    assert row.who
    assert head(settings, "topics").last == row


def test_a_step_writes_one_row_however_often_it_is_tried(settings: Settings) -> None:
    rows = [write(settings, "topics", "a") for _ in range(3)]
    assert len(entries(settings)) == 1
    assert rows[0] == rows[1] == rows[2]


def test_writers_at_the_same_time_lose_and_double_nothing(settings: Settings) -> None:
    jobs = [(model, f"{model}{number % 6}") for number in range(12) for model in ("a", "b")]  # each twice
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda job: write(settings, *job), jobs))
    for model in ("a", "b"):
        rows = entries(settings, model=model)
        assert sorted(row.step_key for row in rows) == sorted({key for name, key in jobs if name == model})
        assert [row.from_version for row in rows] == [None, 1, 2, 3, 4, 5]
        assert [row.number for row in rows] == [1, 2, 3, 4, 5, 6]


def test_times_rise_whatever_the_clock_says(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)])

    class Clock(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return next(clock)

    monkeypatch.setattr(ledger_table, "datetime", Clock)
    write(settings, "topics", "a")
    write(settings, "topics", "b")
    first, second = entries(settings)
    assert (first.step_key, second.step_key) == ("a", "b")
    assert second.time == first.time + timedelta(microseconds=1)


def test_a_move_is_settled_once_the_alias_has_followed(settings: Settings) -> None:
    decide = following("topics", "a")
    row = append(settings, "topics", decide, step_key="a", moves_alias=True)
    assert row is not None
    assert not head(settings, "topics").settled
    assert ledger.settle(settings, row)
    assert head(settings, "topics").settled
    write(settings, "topics", "b")
    assert not ledger.settle(settings, row), "another row is the last one"


def test_a_compacted_ledger_says_the_same(settings: Settings) -> None:
    for number in range(4):
        write(settings, "topics", f"{number}")
        write(settings, "other", f"other-{number}")
    before = entries(settings)
    DeltaTable(settings.ledger).optimize.compact()
    assert entries(settings) == before
    write(settings, "topics", "next")
    assert head(settings, "topics").number == 5


def file_with(settings: Settings, key: str) -> Path:
    """The Parquet file that holds a step's row."""
    return next(
        path
        for path in Path(settings.ledger).glob("*.parquet")
        if key in pq.read_table(path).column("step_key").to_pylist()
    )


@pytest.mark.parametrize("column", ["to_version", "who", "time", "step_key"])
def test_a_row_that_was_changed_is_found(settings: Settings, column: str) -> None:
    for key in ("a", "b", "c"):
        write(settings, "topics", key)
    path = file_with(settings, "b")
    table = pq.read_table(path)
    values = {"to_version": 7, "who": "mallory", "time": datetime(2020, 1, 1, tzinfo=UTC), "step_key": "x"}
    row = {**table.to_pylist()[0], column: values[column]}
    pq.write_table(table.from_pylist([row], schema=table.schema), path)
    with pytest.raises(TableError, match="all rows of topics, as they were written"):
        entries(settings)
    write(settings, "other", "d")
    file_with(settings, "c").write_bytes(path.read_bytes())
    with pytest.raises(TableError, match="all rows of topics, as they were written"):
        head(settings, "topics")


def test_a_place_that_cannot_be_written_is_told_in_one_line(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError) as caught:
        write(replace(settings, ledger=str(tmp_path / "file" / "ledger")), "topics", "a")
    assert "\n" not in str(caught.value)


def test_another_table_is_no_ledger(settings: Settings) -> None:
    import pyarrow as pa
    from deltalake import write_deltalake

    write_deltalake(settings.ledger, pa.table({"n": [1]}))
    with pytest.raises(TableError, match="must have the columns model, number"):
        entries(settings)
    with pytest.raises(TableError, match="must have the columns model, number"):
        write(settings, "topics", "a")


def test_no_flipped_bit_is_read_as_another_row(settings: Settings, tmp_path: Path) -> None:
    """Sampled: 600 flips, one at a time, in the rows and the log gave an error or the very same rows."""
    for number in range(4):
        write(settings, "topics" if number % 2 else "other", f"k{number}")
    expected = entries(settings), head(settings, "topics"), head(settings, "other")
    chance = Random(3)
    source = Path(settings.ledger)
    targets = [*source.glob("*.parquet"), *source.glob("_delta_log/*.json")]
    found = 0
    for number in range(40):
        copy = tmp_path / f"copy{number}"
        shutil.copytree(source, copy)
        file = copy / chance.choice(targets).relative_to(source)
        content = bytearray(file.read_bytes())
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        file.write_bytes(content)
        damaged = replace(settings, ledger=str(copy))
        try:
            rows = entries(damaged), head(damaged, "topics"), head(damaged, "other")
        except TableError:
            found += 1
        else:  # a row that is settled once more does no harm
            assert (rows[0], rows[1].last, rows[2].last) == (expected[0], expected[1].last, expected[2].last)
            assert file.suffix == ".json" or rows == expected, file
    assert found > 12


@pytest.mark.parametrize(("was", "now"), [("champion/topics", "champion/topicr"), ("settled/topics", "3")])
def test_a_damaged_counter_is_found(settings: Settings, was: str, now: str) -> None:
    for number in range(2):
        write(settings, "topics", f"k{number}")
    log = Path(settings.ledger) / "_delta_log" / f"{1:020d}.json"
    text = log.read_text()
    if now == "3":
        damaged = re.sub(r'("appId":"settled/topics","version":)2', r"\g<1>3", text)
    else:
        damaged = text.replace(was, now)
    assert damaged != text
    log.write_text(damaged)
    with pytest.raises(TableError, match="the ledger must have all rows of topics"):
        head(settings, "topics")


def test_rows_that_are_none_are_named(settings: Settings) -> None:
    write(settings, "topics", "a")
    (file,) = Path(settings.ledger).glob("*.parquet")
    rows = pq.read_table(file)
    column = rows.schema.get_field_index("action")
    kind = rows.schema.field(column)
    pq.write_table(rows.set_column(column, kind, [["pr/mote"]]), file)
    log = Path(settings.ledger) / "_delta_log" / f"{0:020d}.json"
    text = log.read_text()
    log.write_text(re.sub(r'"size":\d+', f'"size":{file.stat().st_size}', text))
    for read in (lambda: entries(settings), lambda: head(settings, "topics")):
        with pytest.raises(TableError, match=r"as they were written .*pr/mote"):
            read()


@pytest.mark.parametrize("mode", ["append", "overwrite"])
def test_a_step_writes_no_rows_into_the_ledger(settings: Settings, mode: str, tmp_path: Path) -> None:
    write(settings, "m", "k")
    (tmp_path / "link").symlink_to(Path(settings.ledger).parent)
    forged = ledger_table.as_table(
        [ledger_table.following(following("m", "l")(head(settings, "m")), head(settings, "m").last)]
    )
    own = sorted(Path(settings.ledger).rglob("*"))
    for place in (
        *(settings.ledger, f"{tmp_path}/link/ledger", f"{settings.queues}/desks/labels"),
        *(f"file://{settings.ledger}", f"FILE://{settings.ledger}", f"File://localhost{settings.ledger}"),
    ):
        with pytest.raises(TableError, match="a step does not write where modelmill keeps"):
            write_rows(place, forged, mode=mode, transaction="t")
    for protocol in ("fs", "FS", "opendal+fs", "memory"):  # delta-rs has these for local files, too
        with pytest.raises(TableError, match="MODELMILL_STORES"):
            write_rows(f"{protocol}://{settings.ledger}", forged, mode=mode, transaction="t")
    with pytest.raises(TableError, match="a step does not write where modelmill keeps"):
        append_if(settings.ledger, lambda _: Proposal(forged, {"t": 1}), schema=forged.schema)
    assert sorted(Path(settings.ledger).rglob("*")) == own  # nothing is staged there either
    assert [row.to_version for row in entries(settings)] == [1]


def test_a_step_does_not_take_the_ledgers_place_before_there_is_one(settings: Settings) -> None:
    """A table of other columns there would stop every promotion for ever."""
    rows = pa.table({"key": ["a"]})
    for place in (settings.ledger, f"{settings.queues}/desks"):
        with pytest.raises(TableError, match="a step does not write where modelmill keeps"):
            append_if(place, lambda _: Proposal(rows, {"t": 1}), schema=rows.schema)
        assert not Path(place).exists()
    assert write(settings, "m", "k") is not None


@pytest.mark.parametrize("lost", ["add", "txn", "txn and add"])
@pytest.mark.parametrize("settled", [False, True])
def test_a_commit_that_has_lost_lines_is_found(settings: Settings, lost: str, settled: bool) -> None:
    row = write(settings, "topics", "a")
    assert row is not None
    if settled:
        ledger.settle(settings, row)
    log = Path(settings.ledger) / "_delta_log" / f"{0:020d}.json"
    kept = [
        line
        for line in log.read_text().splitlines()
        if next(iter(json.loads(line))) not in lost.split(" and ")
    ]
    log.write_text("\n".join(kept))
    for read in (
        lambda: ledger.head(settings, "topics"),
        lambda: ledger.entries(settings),
        lambda: ledger.entries(settings, model="topics"),
    ):
        with pytest.raises(TableError, match="must"):
            read()


def test_a_log_that_cannot_be_counted_is_named(settings: Settings) -> None:
    write(settings, "topics", "a")
    log = Path(settings.ledger) / "_delta_log" / f"{0:020d}.json"
    log.write_text(log.read_text().replace('"appId"', '"apqId"', 1))
    for read in (lambda: ledger.head(settings, "topics"), lambda: ledger.entries(settings)):
        with pytest.raises(TableError, match=r"ledger|commit"):
            read()
