"""A queue's state that is told of new rows only is the one that all rows together give; an act's cost."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Any

import pytest

from modelmill.labels.agreement import Answers, counted_agreements
from modelmill.labels.queue import LEASE, UNSKIPPED, LabelQueue, QueueRow, newest_labels
from modelmill.labels.queue_state import QueueState
from modelmill.labels.queue_store import Given, LabelQueues

NOW = datetime(2026, 11, 29, tzinfo=UTC)
QUEUE = LabelQueue(
    name="topics", classes=("sport", "trade"), label="topic", key="id", source="/t", second_opinion=0.5
)


def history(random: Random) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows, labels and claims of three people, each at a time of its own."""
    times = [NOW + timedelta(seconds=number) for number in range(200)]
    random.shuffle(times)
    rows = [
        {**QueueRow(key=f"k{number}", text="t").model_dump(), "when": times.pop(), "position": number}
        for number in range(12)
    ]

    def who_and_when() -> dict[str, Any]:
        return {"key": f"k{random.randrange(12)}", "who": random.choice("abc"), "when": times.pop()}

    labels = [who_and_when() | {"label": random.choice(["sport", "trade", None])} for _ in range(60)]
    claims = [who_and_when() for _ in range(60)]
    for claim in claims:
        claim["until"] = random.choice([None, UNSKIPPED, claim["when"] + LEASE])
    return rows, labels, claims


def in_parts(random: Random, rows: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    shuffled = random.sample(list(rows), len(rows))
    cuts = sorted(random.sample(range(len(rows)), 4))
    return [shuffled[first:last] for first, last in zip([0, *cuts], [*cuts, len(rows)], strict=True)]


@pytest.mark.parametrize("seed", range(20))
def test_what_comes_in_parts_and_in_any_order_gives_the_same(seed: int) -> None:
    random = Random(seed)
    rows, labels, claims = history(random)
    told = QueueState(QUEUE)
    parts = zip(in_parts(random, rows), in_parts(random, labels), in_parts(random, claims), strict=True)
    for some_rows, some_labels, some_claims in parts:
        told.add_labels(some_labels)
        told.add_claims(some_claims)
        told.add_rows(some_rows)
    whole = QueueState.of(QUEUE, rows, labels, claims)
    assert list(told.rows) == list(whole.rows) == [row["key"] for row in sorted(rows, key=_when)]
    assert told.labels == whole.labels == newest_labels(labels)
    assert (told.progress(), told.agreements()) == (whole.progress(), whole.agreements())
    assert told.next_rows("a", NOW, most=12) == whole.next_rows("a", NOW, most=12)
    # Counted anew, by what the words mean.
    skips: dict[str, set[str]] = {}
    for claim in sorted(claims, key=_when):
        if claim["until"] is None:
            skips.setdefault(claim["key"], set()).add(claim["who"])
        elif claim["until"] == UNSKIPPED:
            skips.setdefault(claim["key"], set()).discard(claim["who"])
    given, progress = newest_labels(labels), told.progress()
    assert progress.labelled == len(given)
    assert progress.complete == sum(len(each) >= QUEUE.wanted(key) for key, each in given.items())
    assert progress.contested == sum(len(set(each.values())) > 1 for each in given.values())
    assert progress.skipped == sum(bool(who) and key not in given for key, who in skips.items())
    assert progress.people == {
        who: sum(who in each for each in given.values())
        for who in "abc"
        if any(who in e for e in given.values())
    }
    pairs: dict[tuple[str, str], Answers] = {}
    for each in given.values():
        for one, other in combinations(sorted(each), 2):
            pairs.setdefault((one, other), Counter())[each[one], each[other]] += 1
    assert told.agreements() == counted_agreements(pairs)


def _when(row: dict[str, Any]) -> datetime:
    when: datetime = row["when"]
    return when


def test_an_act_looks_at_no_row_a_second_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queues = LabelQueues(str(tmp_path))
    queues.put_forward(QUEUE, [QueueRow(key=f"k{number}", text="t") for number in range(50)], who="ada")
    queues.hand_out("topics", "ada", most=10, now=NOW)
    looked: list[object] = []
    validated = QueueRow.model_validate

    def noted(row: object) -> QueueRow:
        looked.append(row)
        return validated(row)

    monkeypatch.setattr(QueueRow, "model_validate", noted)
    for number in range(3):
        queues.give("topics", "ada", [Given(f"identity {number}", f"k{number}", "sport")])
        queues.hand_out("topics", "ada", most=10)
        assert queues.state("topics").progress().labelled == number + 1
    assert looked == []
    queues.put_forward(QUEUE, [QueueRow(key="new", text="t")], who="ada")
    assert len(queues.state("topics").rows) == 51
    assert len(looked) == 1


def test_a_queue_that_was_made_anew_is_read_anew(tmp_path: Path) -> None:
    queues = LabelQueues(str(tmp_path / "queues"))
    rows = [QueueRow(key=f"k{number}", text="t") for number in range(3)]
    for key in ("k0", "k1"):
        shutil.rmtree(tmp_path / "queues", ignore_errors=True)
        queues.put_forward(QUEUE, rows, who="ada")
        queues.give("topics", "ada", [Given(f"identity {key}", key, "sport")])
        assert queues.state("topics").labels == {key: {"ada": "sport"}}
