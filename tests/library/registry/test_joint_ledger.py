"""Joint moves in the ledger: all rows in one commit, what waits for its alias, what a reader makes of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from benchmarks.joint_promotions import promotions_to
from deltalake import DeltaTable

from modelmill.errors import TableError, TransientError
from modelmill.registry import joint_ledger, joint_moves, ledger
from modelmill.registry.joint_ledger import Behind, JointMove, append_together, key_of, settle_together
from modelmill.registry.ledger import Entry, Head
from modelmill.registry.ledger_table import PROPERTIES
from modelmill.settings import Settings
from modelmill.tables.newest_commit import Commit

NAMES = ("c", "a", "b")


def move(settings: Settings, to: int, key: str, names: tuple[str, ...] = NAMES) -> JointMove:
    """A move whose aliases nobody has set yet."""
    made = append_together(settings, names, promotions_to(to, key), step_key=key)
    assert made is not None
    return made


def refused(key: str, *moving: str) -> Callable[[Mapping[str, Head], int], list[Entry]]:
    """Rows that move some of the models, and refuse the others."""

    def entries(heads: Mapping[str, Head], number: int) -> list[Entry]:
        rows = promotions_to(2, key)(heads, number)
        quiet = {"action": "refuse", "to_version": None}
        return [row if row.model in moving else row.model_copy(update=quiet) for row in rows]

    return entries


def settled(settings: Settings, made: JointMove) -> JointMove:
    """The move, its aliases having followed."""
    assert settle_together(settings, made, NAMES)
    return made


def counter(settings: Settings, name: str) -> int | None:
    return DeltaTable(settings.ledger).transaction_version(name)


def test_before_there_is_a_ledger_nothing_has_moved(settings: Settings) -> None:
    assert joint_ledger.behind(settings) == Behind(0, {})
    assert joint_ledger.open_move(settings) is None
    assert joint_ledger.joint_move(settings, 1) is None
    assert joint_ledger.move_of_step(settings, "k") is None
    assert not Path(settings.ledger).exists()


def test_rows_of_all_models_get_in_together_and_are_numbered(settings: Settings) -> None:
    heads_seen: list[tuple[dict[str, int | None], int]] = []

    def entries(heads: Mapping[str, Head], number: int) -> list[Entry]:
        heads_seen.append(({name: head.champion for name, head in heads.items()}, number))
        return promotions_to(number, "k")(heads, number)

    began = datetime.now(UTC)
    first = append_together(settings, NAMES, entries, step_key="one")
    assert first is not None
    settled(settings, first)
    second = append_together(settings, NAMES, entries, step_key="two")
    assert second is not None
    assert heads_seen == [(dict.fromkeys(NAMES), 1), (dict.fromkeys(NAMES, 1), 2)]
    for number, made in enumerate((first, second), 1):
        assert made.number == number
        assert [row.model for row in made.rows] == ["a", "b", "c"]
        assert {row.step_key for row in made.rows} == {made.step_key} == {f"joint/{number}/k"}
        assert joint_ledger.joint_move(settings, number) == made
        assert made.time == max(row.time for row in made.rows)
        assert began - timedelta(seconds=1) <= made.time <= datetime.now(UTC)
        assert list(made.moving) == ["a", "b", "c"]
    assert joint_ledger.move_of_step(settings, "one") == first
    assert joint_ledger.move_of_step(settings, "two") == second
    assert joint_ledger.move_of_step(settings, "three") is None
    assert [joint_ledger.joint_move(settings, number) for number in (-1, 0, 3)] == [None] * 3
    assert DeltaTable(settings.ledger).metadata().configuration == PROPERTIES
    assert DeltaTable(settings.ledger).version() == 2, "one commit each, and one that settles"
    assert {row.number for row in second.rows} == {2}
    for name in NAMES:
        assert ledger.head(settings, name).champion == 2


def test_the_log_says_of_a_file_which_move_it_holds(settings: Settings) -> None:
    """A move is found without reading the files of others."""
    for number in range(1, 4):
        settled(settings, move(settings, number, f"k{number}"))
    files = pa.table(DeltaTable(settings.ledger).get_add_actions(flatten=True)).to_pylist()
    keys = sorted((file["min.step_key"], file["max.step_key"]) for file in files)
    assert keys == [(f"joint/{number}/k{number}",) * 2 for number in range(1, 4)]
    assert {(file["min.model"], file["max.model"]) for file in files} == {("a", "c")}
    assert sorted((file["min.number"], file["max.number"]) for file in files) == [(1, 1), (2, 2), (3, 3)]
    first = next(file["path"] for file in files if file["min.number"] == 1)
    (Path(settings.ledger) / first).unlink()
    again = joint_ledger.joint_move(settings, 3)
    assert again is not None
    assert again.number == 3


def test_of_moves_with_ten_and_more_none_is_taken_for_another(settings: Settings) -> None:
    for number in range(1, 12):
        settled(settings, move(settings, number, "k" * number, names=("a",)))
    found = joint_ledger.joint_move(settings, 1)
    assert found is not None
    assert [(row.number, row.to_version) for row in found.rows] == [(1, 1)]


def test_a_step_moves_once_and_nobody_moves_past_an_open_move(settings: Settings) -> None:
    made = move(settings, 1, "k")
    assert append_together(settings, NAMES, promotions_to(2, "other"), step_key="other") is None
    assert append_together(settings, ("z",), promotions_to(2, "other"), step_key="other") is None
    settled(settings, made)
    assert append_together(settings, NAMES, promotions_to(2, "k"), step_key="k") is None
    assert move(settings, 2, "other").number == 2


def test_a_move_of_one_model_that_is_open_is_not_passed(settings: Settings) -> None:
    settled(settings, move(settings, 1, "k"))

    def alone(head: Head) -> Entry:
        values = {"action": "promote", "model": "b", "digest": "", "step_key": "alone"}
        return Entry.model_validate({**values, "from_version": head.champion, "to_version": 5})

    row = ledger.append(settings, "b", alone, step_key="alone", moves_alias=True)
    assert row is not None
    assert append_together(settings, NAMES, promotions_to(2, "next"), step_key="next") is None
    assert append_together(settings, ("a", "c"), promotions_to(2, "next"), step_key="next") is not None


def test_aliases_follow_one_by_one_and_the_last_one_settles_the_move(settings: Settings) -> None:
    made = move(settings, 4, "k")
    rows = dict(made.moving)
    assert joint_ledger.open_move(settings) == made
    assert joint_ledger.behind(settings) == Behind(1, rows)
    assert joint_ledger.behind(settings).champions == dict.fromkeys(NAMES, 4)
    assert not settle_together(settings, made, ["b", "unknown"])
    assert ledger.head(settings, "b").settled
    assert not ledger.head(settings, "a").settled
    del rows["b"]
    assert joint_ledger.behind(settings) == Behind(1, rows)
    assert joint_ledger.open_move(settings) == made
    version = DeltaTable(settings.ledger).version()
    assert not settle_together(settings, made, ["b"])
    assert not settle_together(settings, made, [])
    assert DeltaTable(settings.ledger).version() == version, "nothing to write down"
    assert settle_together(settings, made, ["a", "c"])
    assert joint_ledger.behind(settings) == Behind(1, {})
    assert joint_ledger.open_move(settings) is None
    assert (counter(settings, "joint"), counter(settings, "joint_settled")) == (1, 1)
    version = DeltaTable(settings.ledger).version()
    assert settle_together(settings, made, NAMES), "by an heir who comes late"
    assert DeltaTable(settings.ledger).version() == version


def test_who_settles_an_older_move_leaves_the_newest_open(settings: Settings) -> None:
    first = settled(settings, move(settings, 1, "k"))
    second = move(settings, 2, "l")
    assert settle_together(settings, first, NAMES)
    assert joint_ledger.open_move(settings) == second
    assert joint_ledger.behind(settings) == Behind(2, second.moving)


def test_nobody_has_to_follow_a_refusal(settings: Settings) -> None:
    made = append_together(settings, NAMES, refused("k", "b"), step_key="k")
    assert made is not None
    assert list(made.moving) == ["b"]
    assert [ledger.head(settings, name).settled for name in ("a", "b", "c")] == [True, False, True]
    assert list(joint_ledger.behind(settings).waiting) == ["b"]
    settled(settings, made)
    quiet = append_together(settings, NAMES, refused("l"), step_key="l")
    assert quiet is not None
    assert quiet.moving == {}
    assert joint_ledger.behind(settings) == Behind(2, {})
    assert [row.action for row in quiet.rows] == ["refuse"] * 3
    assert all(ledger.head(settings, name).settled for name in NAMES)


def test_a_first_move_that_moves_nothing_is_settled(settings: Settings) -> None:
    made = append_together(settings, NAMES, refused("k"), step_key="k")
    assert made is not None
    assert joint_ledger.open_move(settings) is None
    assert joint_ledger.behind(settings) == Behind(1, {})
    assert all(ledger.head(settings, name).settled for name in NAMES)


def test_a_move_whose_rows_are_gone_is_damage(settings: Settings) -> None:
    made = move(settings, 1, "k")
    log = Path(settings.ledger) / "_delta_log" / f"{0:020d}.json"
    log.write_text(log.read_text().replace("joint/1/k", "joint/7/k"))
    for look in (
        lambda: joint_ledger.joint_move(settings, 1),
        lambda: joint_ledger.open_move(settings),
        lambda: joint_ledger.behind(settings),
    ):
        with pytest.raises(TableError) as caught:
            look()
        assert str(caught.value) == (
            "the ledger must have all rows of joint move 1, as they were written; got 'its rows are "
            "missing'; restore the ledger's table from a copy"
        )
    assert made.number == 1


def test_a_ledger_without_bounds_has_no_joint_moves_to_show(settings: Settings) -> None:
    """As another program's compaction may leave it: that is damage, and no error of another library."""
    move(settings, 1, "k")
    log = Path(settings.ledger) / "_delta_log" / f"{0:020d}.json"
    log.write_text(re.sub(r'"stats":"(?:[^"\\]|\\.)*"', r'"stats":"{\"numRecords\":3}"', log.read_text()))
    with pytest.raises(TableError, match="joint move 1"):
        joint_ledger.joint_move(settings, 1)


# What readers make of it


def standing(settings: Settings, *moves_between: int) -> list[Behind]:
    """What ``while_standing`` asked with, where champions move at each of these looks."""
    asked: list[Behind] = []

    def ask(behind: Behind) -> str:
        asked.append(behind)
        if len(asked) in moves_between:
            number = joint_ledger.behind(settings).number
            settled(settings, move(settings, number + 1, f"k{number}"))
        return f"answer {len(asked)}"

    assert joint_moves.while_standing(settings, ask) == f"answer {len(asked)}"
    return asked


def test_who_asks_while_champions_move_asks_again(settings: Settings) -> None:
    assert standing(settings) == [Behind(0, {})]
    assert standing(settings, 1, 2) == [Behind(number, {}) for number in range(3)]
    made = move(settings, 9, "open")
    assert standing(settings) == [Behind(3, made.moving)]


def moving_for_ever(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let champions move at each look; the numbers of those moves."""
    looks: list[int] = []

    def behind(_: Settings) -> Behind:
        looks.append(len(looks) + 1)
        return Behind(looks[-1], {})

    monkeypatch.setattr(joint_ledger, "behind", behind)
    return looks


def test_champions_that_never_stand_still_cannot_be_read(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    looks = moving_for_ever(monkeypatch)
    said = "champions must stand still for a moment to be read; got 'joint move 21'; look again later"
    with pytest.raises(TransientError) as caught:
        joint_moves.while_standing(settings, asked.append)
    assert str(caught.value) == said
    assert len(asked) == 20
    looks.clear()
    commits = iter(range(1000))
    monkeypatch.setattr(joint_moves, "newest_commit", lambda *_, **__: next(commits))
    with pytest.raises(TransientError) as caught:
        joint_moves.ChampionReader(settings).read(lambda: asked.append(0) or {})
    assert str(caught.value) == said
    assert len(asked) == 40


def test_a_reader_is_told_each_move_once_the_oldest_first(settings: Settings) -> None:
    reader = joint_moves.ChampionReader(settings)
    aliases = {"a": {"champion": 7, "staging": 3}, "other": {"champion": 1}}
    found = reader.read(lambda: aliases)
    assert (found.aliases, found.moved) == (aliases, ())
    first = move(settings, 1, "k1")
    found = reader.read(lambda: aliases)
    assert found.aliases == {"a": {"champion": 1, "staging": 3}, "other": {"champion": 1}}
    assert aliases["a"] == {"champion": 7, "staging": 3}, "what it was given stays as it was"
    assert found.moved == (dict.fromkeys(("a", "b", "c"), 1),)
    assert joint_moves.ChampionReader(settings).read(lambda: aliases).moved == found.moved
    settled(settings, first)
    for number in (2, 3):
        settled(settings, move(settings, number, f"k{number}", names=("a", "b")))
    quiet = append_together(settings, NAMES, refused("k4", "b"), step_key="k4")
    assert quiet is not None
    found = reader.read(lambda: aliases)
    assert found.moved == ({"a": 2, "b": 2}, {"a": 3, "b": 3}, {"b": 2})
    assert found.aliases == aliases, "a has followed, and nobody asked for b"
    assert reader.read(lambda: aliases).moved == ()
    late = joint_moves.ChampionReader(settings)
    assert late.read(lambda: aliases).moved == ({"b": 2},), "at its first look only of the newest one"


def test_a_reader_looks_into_the_ledger_only_if_it_has_grown(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    known: list[Commit | None] = []
    real, newest = joint_ledger.behind, joint_moves.newest_commit

    def look(uri: str, **more: Commit | None) -> Commit | None:
        known.append(more["known"])
        return newest(uri, **more)

    monkeypatch.setattr(joint_ledger, "behind", lambda settings: looks.append(0) or real(settings))
    monkeypatch.setattr(joint_moves, "newest_commit", look)
    reader = joint_moves.ChampionReader(settings)
    assert reader.read(dict).aliases == {}
    assert looks == []
    settled(settings, move(settings, 1, "k"))
    for _ in range(3):
        reader.read(dict)
    assert len(looks) == 1
    assert known[:3] == [None] * 3
    assert known[3:] == [newest(settings.ledger)] * 5, "the log is not opened again"


def test_a_ledger_that_cannot_be_read_is_named(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    errors = [OSError(13, "Permission denied"), OSError("the store is gone")]

    def fail(*_: object, **__: object) -> None:
        raise errors[0]

    monkeypatch.setattr(joint_moves, "newest_commit", fail)
    for reason in ("Permission denied", "the store is gone"):
        with pytest.raises(TransientError) as caught:
            joint_moves.ChampionReader(settings).read(dict)
        assert str(caught.value) == (
            f"the ledger must be readable ({reason}); got '{settings.ledger}'; see MODELMILL_LEDGER"
        )
        del errors[0]


def test_keys_of_a_move_begin_with_its_number() -> None:
    assert key_of(12, "k") == "joint/12/k"
