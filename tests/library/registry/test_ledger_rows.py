"""The ledger's rows as its table keeps them: seals, order, counters, and errors where one is wrong."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from tests.library.registry.clock import Clock

from modelmill.errors import ConfigError, TableError
from modelmill.registry import ledger, ledger_table
from modelmill.registry.ledger import Entry, Head, LedgerRow
from modelmill.registry.ledger_table import as_table, files_of, following, holds, ledger_schema
from modelmill.settings import Settings
from modelmill.tables.conditional_append import Proposal, append_if

DAY = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def promotion(model: str = "topics", to: int = 1, key: str = "k") -> Entry:
    return Entry(action="promote", model=model, from_version=None, to_version=to, digest="d", step_key=key)


def chain(model: str = "topics", count: int = 2) -> list[LedgerRow]:
    """Rows that follow each other."""
    rows: list[LedgerRow] = []
    for number in range(1, count + 1):
        rows.append(following(promotion(model, number, f"{model}{number}"), rows[-1] if rows else None))
    return rows


def commit(settings: Settings, rows: Sequence[LedgerRow], **counters: int) -> None:
    """Write rows and counters as they are, right or wrong."""
    proposal = Proposal(
        as_table(rows) if rows else None,
        {name.replace("_", "/"): value for name, value in counters.items()},
        bounds=("model", "number"),
    )
    append_if(settings.ledger, lambda _: proposal, schema=ledger_schema(), own=True)


def write(settings: Settings, model: str, key: str, *, moves: bool = False) -> LedgerRow:
    row = ledger.append(
        settings, model, lambda head: promotion(model, key=key), step_key=key, moves_alias=moves
    )
    assert row is not None
    return row


def said(read: Callable[[], object]) -> str:
    with pytest.raises(TableError) as caught:
        read()
    return str(caught.value)


def damage(what: str) -> str:
    rule = "the ledger must have all rows of topics, as they were written"
    return f"{rule}; got '{what}'; restore the ledger's table from a copy"


def test_a_seal_stays_what_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger of today is read by later versions, which make the same seals."""
    clock = Clock()
    clock.wall = DAY
    clock.drive(ledger_table, monkeypatch)
    entry = Entry(
        action="refuse",
        model="topics",
        from_version=3,
        to_version=3,
        digest="d" * 64,
        reasons=("zu schlecht: ä", "two"),
        evidence="runs:/r/gate/verdict.json",
        pipeline="nightly",
        run_id="r",
        step_key="k",
        who="Ada",
    )
    first = following(entry, None)
    assert (first.number, first.time) == (1, DAY)
    assert first.model_dump(exclude={"number", "time", "seal"}) == entry.model_dump()
    assert first.seal == "0e253245e9f9da8a78819d3e42ff47489a9109b1ca2d234df7fb107bfdbef5b8"
    clock.wall = DAY + timedelta(seconds=1)
    second = following(entry, first)
    assert (second.number, second.time) == (2, DAY + timedelta(seconds=1))
    assert second.seal == "0fc9b8966f1a30b0eb891c271a8ddeedc3ffad4bc74729aab2037e51a8cbab9e"
    clock.wall = DAY
    third = following(entry, second)
    assert (third.number, third.time) == (3, second.time + timedelta(microseconds=1))


def test_the_table_keeps_every_field_and_lets_none_be_removed(settings: Settings) -> None:
    row = write(settings, "topics", "k")
    table = DeltaTable(settings.ledger)
    assert table.metadata().configuration["delta.appendOnly"] == "true"
    kinds = {field.name: str(field.type) for field in pa.schema(table.schema().to_arrow())}
    text = dict.fromkeys(("who", "action", "digest", "evidence", "pipeline", "run_id", "step_key", "seal"))
    assert {name for name, kind in kinds.items() if kind.startswith("string")} == {"model", *text}
    numbers = {name for name, kind in kinds.items() if kind == "int64"}
    assert numbers == {"number", "from_version", "to_version"}
    assert kinds["time"] == "timestamp[us, tz=UTC]"
    assert set(kinds) == {"model", *text, *numbers, "time", "reasons"}
    assert as_table([row]).schema == ledger_schema()
    assert as_table([row, row]).to_pylist() == [{**row.model_dump(), "reasons": []}] * 2
    with pytest.raises(Exception, match=r"(?i)append"):
        table.delete()


def test_what_the_log_says_of_a_file(settings: Settings) -> None:
    commit(settings, chain("b", 3), champion_b=3, settled_b=3)
    write(settings, "a", "k")
    found = {bounds: file for file, bounds in files_of(DeltaTable(settings.ledger))}
    assert sorted(found) == [("a", "a", 1, 1), ("b", "b", 1, 3)]
    for bounds, rows in ((("a", "a", 1, 1), 1), (("b", "b", 1, 3), 3)):
        file = found[bounds]
        assert (file.rows, file.size) == (rows, (Path(settings.ledger) / file.path).stat().st_size)


def test_files_of_which_the_log_says_nothing_are_read_too(settings: Settings) -> None:
    rows = chain(count=3)
    proposal = Proposal(as_table(rows), {"champion/topics": 3, "settled/topics": 2})
    append_if(settings.ledger, lambda _: proposal, schema=ledger_schema(), own=True)
    assert [bounds for _, bounds in files_of(DeltaTable(settings.ledger))] == [(None, None, None, None)]
    assert ledger.head(settings, "topics") == Head(last=rows[2], settled=False)
    assert ledger.entries(settings, model="topics") == rows


@pytest.mark.parametrize(
    ("bounds", "number", "may"),
    [
        (("b", "d", 2, 4), None, True),
        (("b", "d", 2, 4), 1, False),
        (("b", "d", 2, 4), 2, True),
        (("b", "d", 2, 4), 4, True),
        (("b", "d", 2, 4), 5, False),
        (("c", "c", 2, 4), 3, True),
        (("d", "e", 2, 4), 3, False),
        (("a", "b", 2, 4), 3, False),
        (("d", "e", None, None), None, False),
        ((None, "a", 2, 4), 3, True),
        (("d", None, 2, 4), 3, True),
        (("b", "d", None, 4), 5, True),
        (("b", "d", 2, None), 1, True),
        ((None, None, 2, 4), 5, False),
    ],
)
def test_which_files_may_have_a_row(bounds: Any, number: int | None, may: bool) -> None:
    assert holds(bounds, "c", number) is may


def test_only_the_files_of_the_last_two_rows_are_read(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        for model in ("a", "b", "c"):
            write(settings, model, f"{model}{number}")
    read: list[list[int]] = []
    real = ledger_table.read_rows

    def look(table: DeltaTable, files: Sequence[ledger_table.ActiveFile]) -> list[LedgerRow]:
        rows = real(table, files)
        read.append(sorted(row.number for row in rows))
        return rows

    monkeypatch.setattr(ledger_table, "read_rows", look)
    assert ledger.head(settings, "a").number == 4
    heads = ledger.heads(settings, ["a", "c", "nobody"])
    assert {name: (head.number, head.settled) for name, head in heads.items()} == {
        "a": (4, True),
        "c": (4, True),
        "nobody": (0, True),
    }
    assert heads["nobody"] == ledger.head(settings, "nobody") == Head(last=None, settled=True)
    assert read == [[3, 4], [3, 3, 4, 4]]


def test_before_there_is_a_ledger(settings: Settings) -> None:
    assert ledger.heads(settings, ["a", "b"]) == dict.fromkeys("ab", Head(last=None, settled=True))
    assert Head(last=None, settled=True).champion is None
    assert ledger.find(settings, "a", "k") is None
    assert ledger.entries(settings, model="a") == []
    assert not ledger.settle(settings, chain()[0])
    assert not Path(settings.ledger).exists()


@pytest.mark.parametrize(
    ("rows", "counters", "what", "of_all"),
    [
        (slice(0, 1), {"champion_topics": 2}, "row 2 is missing", "1 rows instead of 2"),
        (slice(0, 1), {"champion_topics": 3}, "row 3 is missing", "1 rows instead of 3"),
        (slice(1, 2), {"champion_topics": 2}, "row 1 is missing", "1 rows instead of 2"),
        (
            slice(0, 3),
            {"champion_topics": 1},
            "row 3 after row 1, the last one by the log",
            "3 rows instead of 1",
        ),
        (
            slice(0, 2),
            {"champion_topics": 2, "settled_topics": 3},
            *["row 3 is settled, after the last one, row 2"] * 2,
        ),
    ],
)
def test_counters_that_say_something_else_than_the_rows(
    settings: Settings, rows: slice, counters: dict[str, int], what: str, of_all: str
) -> None:
    commit(settings, chain(count=3)[rows], **counters)
    assert said(lambda: ledger.head(settings, "topics")) == damage(what)
    assert said(lambda: ledger.entries(settings, model="topics")) == damage(of_all)
    assert said(lambda: ledger.entries(settings)) == damage(of_all)


def test_rows_without_a_counter_are_found_and_other_models_are_none_of_them(settings: Settings) -> None:
    commit(settings, chain(count=2), other=1)
    assert said(lambda: ledger.entries(settings)) == damage("2 rows instead of 0")
    assert ledger.entries(settings, model="nobody") == []
    assert ledger.head(settings, "nobody").last is None
    commit(settings, [], settled_nobody=1)
    assert "row 1 is settled, after the last one, row 0" in said(lambda: ledger.head(settings, "nobody"))


def test_a_file_of_two_models_says_nothing_of_the_number_of_one(settings: Settings) -> None:
    long, short = chain("a", 5), chain("b", 1)
    commit(settings, [*long, *short], champion_a=5, champion_b=1, settled_a=5, settled_b=1)
    assert ledger.head(settings, "b") == Head(last=short[0], settled=True)
    assert ledger.head(settings, "a").last == long[-1]
    assert ledger.entries(settings) == sorted([*long, *short], key=lambda row: row.time)


@pytest.mark.parametrize("wrong", [1, 2, 3])
def test_a_row_that_is_not_what_was_sealed_is_named(settings: Settings, wrong: int) -> None:
    rows = chain(count=3)
    rows[wrong - 1] = rows[wrong - 1].model_copy(update={"to_version": 77})
    commit(settings, rows, champion_topics=3, settled_topics=3)
    for read in (lambda: ledger.entries(settings), lambda: ledger.entries(settings, model="topics")):
        assert said(read) == damage(f"row {wrong} is not as it was written")
    if wrong == 3:
        assert said(lambda: ledger.head(settings, "topics")) == damage("row 3 is not as it was written")
    else:  # it reads the last row and the seal of the one before
        assert ledger.head(settings, "topics").last == rows[-1]


def test_a_seal_that_was_changed_breaks_the_row_after_it(settings: Settings) -> None:
    rows = chain(count=2)
    rows[0] = rows[0].model_copy(update={"seal": "f" * 64})
    commit(settings, rows, champion_topics=2, settled_topics=2)
    assert said(lambda: ledger.head(settings, "topics")) == damage("row 2 is not as it was written")
    assert said(lambda: ledger.entries(settings)) == damage("row 1 is not as it was written")


def test_a_ledger_without_rows_and_one_with_others_are_told_in_full(settings: Settings) -> None:
    place = settings.ledger
    commit(settings, [], other=1)
    assert said(lambda: ledger.head(settings, "topics")) == (
        f"the ledger must have rows ({place}); got 'none'; restore the ledger's table from a copy"
    )
    forged = as_table(chain(count=1)).to_pylist()
    append_if(
        place,
        lambda _: Proposal(
            pa.Table.from_pylist([{**forged[0], "action": "pr/mote"}], ledger_schema()),
            {"champion/topics": 1},
            bounds=("model", "number"),
        ),
        schema=ledger_schema(),
        own=True,
    )
    told = said(lambda: ledger.head(settings, "topics"))
    rule, _, rest = told.partition(" (")
    assert rule == "the ledger's rows must be as they were written"
    assert "pr/mote" in rest
    assert len(rest.partition(")")[0]) <= 200
    assert rest.endswith(f"; got '{place}'; restore the ledger's table from a copy")


def test_a_table_that_is_no_ledger_is_told_in_full(settings: Settings) -> None:
    write_deltalake(settings.ledger, pa.table({"n": [1]}))
    assert said(lambda: ledger.entries(settings)) == (
        "the ledger must have the columns model, number, time, who, action, from_version, to_version, "
        "digest, reasons, evidence, pipeline, run_id, step_key, seal; got "
        f"'{settings.ledger}'; it is another table, or a ledger of another version of modelmill: "
        "set MODELMILL_LEDGER"
    )


def test_rows_come_in_the_order_in_which_they_happened(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    clock.wall = DAY
    clock.drive(ledger_table, monkeypatch)
    write(settings, "a", "third")
    write(settings, "a", "fourth")
    clock.wall = DAY - timedelta(seconds=1)
    write(settings, "b", "first")
    write(settings, "b", "second")
    keys = [row.step_key for row in ledger.entries(settings)]
    assert keys == ["first", "second", "third", "fourth"]
    assert [row.step_key for row in ledger.entries(settings, model="a")] == ["third", "fourth"]


def test_a_step_that_wrote_nothing_finds_nothing(settings: Settings) -> None:
    row = write(settings, "topics", "k")
    assert ledger.find(settings, "topics", "k") == row
    assert ledger.find(settings, "topics", "l") is None
    assert ledger.find(settings, "other", "k") is None
    assert ledger.append(settings, "topics", lambda _: None, step_key="l", moves_alias=False) is None
    assert ledger.entries(settings) == [row]


def test_a_step_key_of_another_model_is_told_in_full(settings: Settings) -> None:
    write(settings, "topics", "k")
    with pytest.raises(ConfigError) as caught:
        write(settings, "other", "k")
    assert str(caught.value) == (
        "a step key writes a row of one model; got 'k for other, and before for another one'; "
        "give each model a step key of its own"
    )


def test_who_was_slower_decides_again(settings: Settings) -> None:
    seen: list[int] = []

    def decide(head: Head) -> Entry:
        seen.append(head.number)
        if len(seen) == 1:
            write(settings, "topics", "faster")
            write(settings, "other", "in nobody's way")
        return promotion(to=9, key="slower")

    row = ledger.append(settings, "topics", decide, step_key="slower", moves_alias=True)
    assert row is not None
    assert (seen, row.number, row.to_version) == ([0, 1], 2, 9)
    assert [one.step_key for one in ledger.entries(settings, model="topics")] == ["faster", "slower"]
    assert ledger.head(settings, "topics") == Head(last=row, settled=False)


def test_an_attempt_that_was_slower_than_another_of_its_own_gets_its_row(settings: Settings) -> None:
    def decide(head: Head) -> Entry:
        write(settings, "topics", "k")
        return promotion(to=9)

    row = ledger.append(settings, "topics", decide, step_key="k", moves_alias=False)
    assert [row] == ledger.entries(settings)
    assert row is not None
    assert row.to_version == 1


def test_a_row_is_settled_once(settings: Settings) -> None:
    first = write(settings, "topics", "a", moves=True)
    version = DeltaTable(settings.ledger).version()
    assert ledger.settle(settings, first)
    assert DeltaTable(settings.ledger).version() == version + 1
    assert ledger.settle(settings, first)
    assert DeltaTable(settings.ledger).version() == version + 1
    second = write(settings, "topics", "b", moves=True)
    assert not ledger.settle(settings, first)
    assert not ledger.head(settings, "topics").settled
    assert ledger.settle(settings, second)
    assert ledger.head(settings, "topics").settled
    assert ledger.head(settings, "other").settled


def test_who_asked_is_named_even_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELMILL_USER", "Ada")
    assert ledger.current_user() == promotion().who == "Ada"
    monkeypatch.setenv("MODELMILL_USER", "")
    monkeypatch.setattr(getpass, "getuser", lambda: "lovelace")
    assert ledger.current_user() == "lovelace"

    def nobody() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr(getpass, "getuser", nobody)
    assert ledger.current_user() == f"uid {os.getuid()}"
