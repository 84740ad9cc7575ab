"""Queues of rows that people label: nothing is lost, nobody gets another's row, the next night reads it."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from modelmill.artifacts import TableRef
from modelmill.component import StepContext
from modelmill.documents.versions import NotFoundError
from modelmill.errors import ConfigError, TableError
from modelmill.labels import queue_rows
from modelmill.labels.agreement import cohen_kappa
from modelmill.labels.person_labels import PersonLabelColumns, apply_labels, read_person_labels
from modelmill.labels.queue import LEASE, LabelQueue, QueueRow, settled_labels
from modelmill.labels.queue_rows import Shown, take_rows, what_is_shown
from modelmill.labels.queue_store import Given, LabelQueues
from modelmill.steps.apply_labels import ApplyLabelsConfig, ApplyLabelsInputs, run
from modelmill.tables.preview import first_rows
from modelmill.tables.reading import read_arrow

NOW = datetime(2026, 11, 29, tzinfo=UTC)
QUEUE = LabelQueue(name="topics", classes=("sport", "trade"), label="topic", key="id", source="/t@3")
ROWS = [QueueRow(key=f"k{number}", text=f"text {number}", why="conflict") for number in range(8)]


@pytest.fixture(name="queues")
def _queues(tmp_path: Path) -> LabelQueues:
    queues = LabelQueues(str(tmp_path / "labelling"))
    queues.put_forward(QUEUE, ROWS, who="ada")
    return queues


def test_rows_go_to_one_person_each(queues: LabelQueues) -> None:
    again = LabelQueues(queues.root)  # another process
    ada, _ = queues.hand_out("topics", "ada", most=3, now=NOW)
    bob, _ = again.hand_out("topics", "bob", most=10, now=NOW)
    assert [row.key for row in ada] == ["k0", "k1", "k2"]
    assert [row.key for row in bob] == ["k3", "k4", "k5", "k6", "k7"]
    # A page that is loaded anew has the same rows; so has a server that was restarted.
    assert again.hand_out("topics", "ada", most=3, now=NOW)[0] == ada
    # It has them for ten minutes from then on.
    again.hand_out("topics", "ada", most=3, now=NOW + LEASE - timedelta(seconds=1))
    bob, _ = again.hand_out("topics", "bob", most=10, now=NOW + LEASE + timedelta(seconds=1))
    assert [row.key for row in bob] == ["k3", "k4", "k5", "k6", "k7"]
    later = NOW + 2 * LEASE + timedelta(seconds=2)
    assert [row.key for row in again.hand_out("topics", "cy", most=10, now=later)[0]] == [r.key for r in ROWS]


@pytest.mark.parametrize("name", ["rows", "labels", "claims", "queues"])
def test_a_damaged_file_is_refused(queues: LabelQueues, name: str) -> None:
    queues.hand_out("topics", "ada", most=2, now=NOW)
    queues.give("topics", "ada", [Given("a", "k0", "sport")])
    root = Path(queues.root)
    folder = root / "queues" if name == "queues" else root / "topics" / name
    file = max(folder.glob("*.parquet"), key=lambda each: each.stat().st_mtime_ns)
    whole = file.read_bytes()
    for place in range(4, len(whole), len(whole) // 40):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        file.write_bytes(damaged)
        with pytest.raises(TableError, match=file.name):
            LabelQueues(queues.root).state("topics")
    file.write_bytes(whole)
    known = LabelQueues(queues.root)
    assert known.state("topics").labels == {"k0": {"ada": "sport"}}
    # So is one that came after a process had begun to follow the queue.
    queues.hand_out("topics", "ben", most=2, now=NOW)
    queues.give("topics", "ben", [Given("b", "k1", "trade")])
    queues.put_forward(QUEUE, [QueueRow(key="new", text="new")], who="ada")
    fresh = set(folder.glob("*.parquet")) - {file}
    if name != "queues":
        newest = max(fresh, key=lambda each: each.stat().st_mtime_ns)
        damaged = bytearray(newest.read_bytes())
        damaged[len(damaged) // 2] ^= 1
        newest.write_bytes(damaged)
        with pytest.raises(TableError, match="as it was written"):
            known.state("topics")


def test_labels_are_written_once_and_taken_back(queues: LabelQueues) -> None:
    given = [Given("a", "k0", "sport"), Given("b", "k1", "trade"), Given("c", "k2", None, "skip")]
    assert queues.give("topics", "ada", given) == 3
    assert LabelQueues(queues.root).give("topics", "ada", given) == 0  # sent again after a lost answer
    assert queues.give("topics", "ada", [Given("d", "k1", None)]) == 1
    written = DeltaTable(queues.place("topics")).to_pyarrow_table().sort_by("when").to_pylist()
    assert [(row["key"], row["label"], row["who"], row["source"]) for row in written] == [
        ("k0", "sport", "ada", "person"),
        ("k1", "trade", "ada", "person"),
        ("k1", None, "ada", "person"),
    ]
    rows, state = queues.hand_out("topics", "ada", most=2, now=NOW)
    assert [row.key for row in rows] == ["k1", "k3"]  # taken back; k2 was skipped
    assert "k2" in [row.key for row in queues.hand_out("topics", "bob", most=8, now=NOW)[0]]
    progress = state.progress()
    assert (progress.rows, progress.labelled, progress.skipped, progress.people) == (8, 1, 1, {"ada": 1})


def test_what_a_person_does_later_counts_whatever_the_clocks_say(queues: LabelQueues) -> None:
    queues.give("topics", "ada", [Given("a", "k0", "sport"), Given("b", "k1", "sport")], now=NOW + LEASE)
    slow = LabelQueues(queues.root)  # on a machine whose clock is slow
    slow.give("topics", "ada", [Given("c", "k0", None), Given("d", "k1", "trade")], now=NOW)
    assert queues.state("topics").labels == {"k1": {"ada": "trade"}}


@pytest.mark.parametrize(
    ("kind", "classes", "value", "kept", "refused"),
    [
        ("class", ("a", "b"), "a", "a", "c"),
        ("set", ("a", "b"), ["b", "a", "a"], ["a", "b"], ["c"]),
        ("set", ("a", "b"), [], [], "d"),
        ("number", (), 3, 3.0, float("nan")),
        ("number", (), 0, 0.0, "1"),
    ],
)
def test_each_kind_of_label(
    kind: str, classes: tuple[str, ...], value: object, kept: object, refused: object, tmp_path: Path
) -> None:
    queues = LabelQueues(str(tmp_path))
    queue = LabelQueue.model_validate(
        {"name": "q", "kind": kind, "classes": classes, "label": "l", "key": "id", "source": ""}
    )
    assert queues.put_forward(queue, ROWS, who="ada") == 8
    queues.give("q", "ada", [Given("a", "k0", value)])
    with pytest.raises(ConfigError, match="label"):
        queues.give("q", "ada", [Given("c", "k1", value), Given("b", "k0", refused)])
    (row,) = DeltaTable(queues.place("q")).to_pyarrow_table().to_pylist()
    assert row["label"] == kept
    assert queues.state("q").progress().labelled == 1


def test_rows_are_put_forward_once_and_a_name_asks_one_thing(queues: LabelQueues) -> None:
    assert queues.put_forward(QUEUE, [*ROWS, QueueRow(key="new", text="t")], who="bob") == 1
    with pytest.raises(ConfigError, match="choose another name"):
        queues.put_forward(QUEUE.model_copy(update={"label": "other"}), ROWS, who="bob")
    assert queues.put_forward(QUEUE.model_copy(update={"classes": ("trade", "art")}), ROWS, who="bob") == 0
    assert LabelQueues(queues.root).queue("topics").classes == ("sport", "trade", "art")
    many = QUEUE.model_copy(update={"classes": tuple(f"class {number}" for number in range(997))})
    assert queues.put_forward(many, [], who="bob") == 0
    with pytest.raises(ConfigError, match=r"choose among sport, trade, .* and 980 more$"):
        queues.give("topics", "ada", [Given("x", "k0", "none of them")])
    many = QUEUE.model_copy(update={"classes": ("one more",)})
    with pytest.raises(ConfigError, match="1,000 classes at most, not 1,001"):
        queues.put_forward(many, ROWS, who="bob")
    with pytest.raises(NotFoundError):
        queues.hand_out("nothing", "ada", most=1)
    with pytest.raises(ConfigError, match="is in the queue"):
        queues.give("topics", "ada", [Given("x", "elsewhere", "sport")])
    for broken in ({"classes": ("a",)}, {"classes": ("a", "a", "b")}, {"kind": "number"}):
        with pytest.raises(ConfigError, match="class"):
            LabelQueue.of_fields(**QUEUE.model_dump() | broken)


def test_a_second_opinion_is_asked_of_somebody_else(tmp_path: Path) -> None:
    queues = LabelQueues(str(tmp_path))
    queue = QUEUE.model_copy(update={"second_opinion": 1.0})
    queues.put_forward(queue, ROWS, who="ada")
    queues.give("topics", "ada", [Given("a", "k0", "sport"), Given("b", "k1", "sport")])
    assert [row.key for row in queues.hand_out("topics", "bob", most=2, now=NOW)[0]] == ["k0", "k1"]
    queues.give("topics", "bob", [Given("c", "k0", "sport"), Given("d", "k1", "trade")])
    assert "k0" not in [row.key for row in queues.hand_out("topics", "cy", most=8, now=NOW)[0]]
    state = queues.state("topics")
    progress = state.progress()
    assert (progress.labelled, progress.complete, progress.contested) == (2, 2, 1)
    (pair,) = state.agreements()
    assert (pair.people, pair.rows, pair.share, pair.kappa) == (("ada", "bob"), 2, 0.5, 0.0)
    some = QUEUE.model_copy(update={"second_opinion": 0.2})
    assert 150 < sum(some.wanted(f"row {number}") == 2 for number in range(1000)) < 250


WRITER = """
import sys
from modelmill.labels.queue_store import Given, LabelQueues
queues, who = LabelQueues(sys.argv[1]), sys.argv[2]
while rows := queues.hand_out("topics", who, most=2)[0]:
    for row in rows:
        print(row.key, flush=True)
        queues.give("topics", who, [Given(f"{who} {row.key}", row.key, "sport")])
"""


def test_two_processes_share_a_queue(queues: LabelQueues) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, queues.root, who], stdout=subprocess.PIPE, text=True)
        for who in ("ada", "bob")
    ]
    said = [writer.communicate(timeout=120)[0].split() for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0]
    assert sorted(said[0] + said[1]) == [row.key for row in ROWS]  # each row went to one of them, once
    assert len(DeltaTable(queues.place("topics")).to_pyarrow_table()) == 8


def test_kappa_is_scikit_learns() -> None:
    from sklearn.metrics import cohen_kappa_score

    random = Random(3)
    pairs = [(random.choice("abc"), random.choice("aab")) for _ in range(200)]
    expected = cohen_kappa_score([one for one, _ in pairs], [other for _, other in pairs])
    assert cohen_kappa(Counter(pairs)) == pytest.approx(expected)
    assert cohen_kappa(Counter([("a", "a")] * 3)) is None
    assert cohen_kappa(Counter()) is None


def test_most_people_settle_a_label_and_a_tie_settles_nothing() -> None:
    labels = {"k": {"ada": "a", "bob": "b"}, "l": {"ada": "a", "bob": "b", "cy": "a"}, "m": {"ada": "b"}}
    assert settled_labels(labels) == {"l": "a", "m": "b"}


def test_rows_are_taken_from_what_steps_put_forward(tmp_path: Path) -> None:
    place = str(tmp_path / "t")
    rows = {
        "id": [1, 2, 2, None, 5],
        "text": ["a", "b", "c", "d", None],
        "topic": ["sport", None, "trade", "sport", "sport"],
        "topic_suggested": ["trade"] * 5,
        "topic_suggested_probability": [0.5] * 5,
        "topic_reason": ["unsure"] * 5,
        "topic_rank": [1, 2, 3, 4, 5],
    }
    write_deltalake(place, pa.table(rows))
    assert what_is_shown(list(rows)) == Shown("topic", "topic", "topic_suggested", "topic_reason")
    ranked = ["key", "text", "topic", "suggested_label", "label_probability"]
    assert what_is_shown(ranked) == Shown("topic", "topic", "suggested_label")
    assert what_is_shown(["a", "b"]) == Shown("")
    taken = take_rows(place, key="id", text="text", most=100)
    assert [(row.key, row.text, row.label, row.suggestion, row.why) for row in taken.rows] == [
        ("1", "a", "sport", "trade", "unsure"),
        ("2", "b", None, "trade", "unsure"),
    ]
    assert (taken.left_out, taken.classes, taken.label) == (3, ("trade", "sport"), "topic")
    with pytest.raises(TableError, match="did you mean 'topic'"):
        take_rows(place, key="id", text="tpoic", most=5)


def test_only_what_is_shown_of_a_table_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def noted(uri: str, **how: Any) -> tuple[str, int, pa.RecordBatch]:
        asked.append(how)
        return first_rows(uri, **how)

    monkeypatch.setattr(queue_rows, "first_rows", noted)
    place = str(tmp_path / "t")
    write_deltalake(place, pa.table({"image": [b"\xff\xd8"], "id": ["a"], "text": ["t"]}))
    (row,) = take_rows(place, key="id", text="text", most=5).rows
    assert (row.key, row.text) == ("a", "t")
    assert asked == [{"version": 0, "rows": 5, "columns": ["id", "text"]}]
    with pytest.raises(TableError, match="a key is a text"):
        take_rows(place, key="image", text="text", most=5)


def test_the_next_night_reads_the_labels(
    queues: LabelQueues, step_context: StepContext, tmp_path: Path
) -> None:
    queues.give("topics", "ada", [Given("a", "k0", "trade"), Given("b", "k1", "sport")])
    queues.give("topics", "bob", [Given("c", "k1", "trade")])  # they differ: the row stays as it is
    source = str(tmp_path / "rows")
    table = pa.table({"id": ["k0", "k1", "k9", None], "topic": ["sport", None, "sport", "sport"]})
    write_deltalake(source, table)
    labels = TableRef(uri=queues.place("topics"), version=DeltaTable(queues.place("topics")).version())
    inputs = ApplyLabelsInputs(table=TableRef(uri=source, version=0), labels=labels)
    config = ApplyLabelsConfig(key="id", label="topic", source="topic_source")
    made = run(config, inputs, step_context).table
    assert read_arrow(made).to_pylist() == [
        {"id": "k0", "topic": "trade", "topic_source": "person"},
        {"id": "k1", "topic": None, "topic_source": None},
        {"id": "k9", "topic": "sport", "topic_source": None},
        {"id": None, "topic": "sport", "topic_source": None},
    ]
    number = str(tmp_path / "numbers")
    write_deltalake(number, pa.table({"id": ["k0"], "topic": [1.5]}))
    wrong = ApplyLabelsInputs(table=TableRef(uri=number, version=0), labels=labels)
    with pytest.raises(TableError, match="must fit the column topic"):
        run(ApplyLabelsConfig(key="id", label="topic"), wrong, step_context)
    with pytest.raises(ConfigError, match="different columns"):
        run(ApplyLabelsConfig(key="id", label="id"), inputs, step_context)


def test_sets_and_numbers_are_applied(tmp_path: Path, step_context: StepContext) -> None:
    source = str(tmp_path / "rows")
    write_deltalake(source, pa.table({"id": [1, 2]}))
    kinds: list[tuple[str, tuple[str, ...], object]] = [("set", ("a", "b"), ["b", "a"]), ("number", (), 2.5)]
    for kind, classes, value in kinds:
        queues = LabelQueues(str(tmp_path / kind))
        queue = {"name": "q", "kind": kind, "classes": classes, "label": "l", "key": "id", "source": ""}
        queues.put_forward(LabelQueue.model_validate(queue), [QueueRow(key="2", text="t")], who="ada")
        queues.give("q", "ada", [Given("a", "2", value)])
        labels = TableRef(uri=queues.place("q"), version=DeltaTable(queues.place("q")).version())
        inputs = ApplyLabelsInputs(table=TableRef(uri=source, version=0), labels=labels)
        config = ApplyLabelsConfig(key="id", label="l", to=str(tmp_path / f"made {kind}"))
        made = read_arrow(run(config, inputs, step_context).table).to_pylist()
        expected = sorted(value) if isinstance(value, list) else value
        assert [row["l"] for row in made] == [None, expected]


def test_an_empty_queue_can_be_read_before_anybody_labels(
    queues: LabelQueues, step_context: StepContext, tmp_path: Path
) -> None:
    source = str(tmp_path / "rows")
    write_deltalake(source, pa.table({"id": ["k0"], "topic": ["sport"]}))
    labels = TableRef(uri=queues.place("topics"), version=0)
    inputs = ApplyLabelsInputs(table=TableRef(uri=source, version=0), labels=labels)
    made = run(ApplyLabelsConfig(key="id", label="topic"), inputs, step_context).table
    assert read_arrow(made).column("topic").to_pylist() == ["sport"]


def test_a_skip_is_taken_back_once(queues: LabelQueues) -> None:
    queues.hand_out("topics", "ada", most=1, now=NOW)
    queues.give("topics", "ada", [Given("a", "k0", None, "skip")], now=NOW)
    assert queues.state("topics").progress().skipped == 1
    back = [Given("b", "k0", None, "unskip")]
    assert [queues.give("topics", "ada", back, now=NOW) for _ in range(2)] == [1, 0]
    assert queues.state("topics").progress().skipped == 0
    # It is in front of the person again, and of nobody else.
    assert queues.hand_out("topics", "bob", most=1, now=NOW)[0][0].key == "k1"
    assert queues.hand_out("topics", "ada", most=1, now=NOW)[0][0].key == "k0"
    queues.give("topics", "ada", [Given("c", "k0", None, "skip")], now=NOW)
    queues.give("topics", "ada", back, now=NOW)  # sent again after a lost answer: the later skip stands
    assert queues.state("topics").progress().skipped == 1
    assert DeltaTable(queues.place("topics")).to_pyarrow_table().num_rows == 0  # a skip is no label


def test_a_slow_reader_keeps_the_rows_that_are_in_front(queues: LabelQueues) -> None:
    queues.hand_out("topics", "ada", most=2, now=NOW)
    late = NOW + LEASE + timedelta(minutes=1)
    queues.hand_out("topics", "ada", most=0, holding=["k0", "k1", "gone"], now=NOW + LEASE / 2)
    assert queues.hand_out("topics", "bob", most=1, now=late)[0][0].key == "k2"
    # Without that it goes to somebody else after ten minutes, and is said to be no longer there.
    later = late + LEASE
    assert queues.hand_out("topics", "bob", most=1, holding=[], now=later)[0][0].key == "k0"
    rows, _ = queues.hand_out("topics", "ada", most=3, holding=["k1", "k0"], now=later)
    assert [row.key for row in rows] == ["k1", "k2", "k3"]


TIME = pa.array([NOW], pa.timestamp("us", "UTC"))
LABELS = {"key": ["k1"], "label": ["sport"], "who": ["ada"], "when": TIME}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"key": [1]}, "key: int64"),
        ({"who": [1]}, "who: int64"),
        ({"when": ["2026"]}, "when: string"),
        ({"label": [{"a": 1}]}, "label: struct"),
        ({"key": pa.nulls(1, pa.string())}, "null in key"),
        ({"who": pa.nulls(1, pa.string())}, "null in who"),
        ({"when": pa.nulls(1, pa.timestamp("us", "UTC"))}, "null in when"),
    ],
)
def test_another_table_than_one_of_labels_is_refused(tmp_path: Path, wrong: Any, said: str) -> None:
    for name, columns in (("right", LABELS), ("wrong", {**LABELS, **wrong})):
        write_deltalake(str(tmp_path / name), pa.table(columns))
    assert read_person_labels(TableRef(uri=str(tmp_path / "right"), version=0)).labels == {"k1": "sport"}
    with pytest.raises(TableError, match=said):
        read_person_labels(TableRef(uri=str(tmp_path / "wrong"), version=0))


@pytest.mark.parametrize("columns", [("id", "topic"), ("id", "label", "TEXT")])
def test_a_column_that_differs_by_case_alone_is_refused(tmp_path: Path, columns: tuple[str, ...]) -> None:
    write_deltalake(str(tmp_path / "labels"), pa.table(LABELS))
    write_deltalake(str(tmp_path / "rows"), pa.table({"id": ["k1"], "Topic": ["trade"], "text": ["a"]}))
    rows, labels = (TableRef(uri=str(tmp_path / name), version=0) for name in ("rows", "labels"))
    with pytest.raises(ConfigError, match=r"differ by more than case .*write (Topic|text)"):
        apply_labels(
            rows, labels, columns=PersonLabelColumns(*columns), to=str(tmp_path / "to"), transaction="t"
        )
