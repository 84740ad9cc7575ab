"""What gold rows prove: promises hold on new rows, and few rows promise nothing."""

from __future__ import annotations

import numpy as np
import pytest

from modelmill.language_models.answers import LabelAnswer
from modelmill.language_models.gold import GoldRow, by_label, held_to_gold
from modelmill.language_models.labelled_rows import decide
from modelmill.language_models.plan import PlannedRow
from modelmill.language_models.votes import Vote, vote

LABELS = ("a", "b", "c")


def gold_rows(count: int, random: np.random.Generator, *, scored: bool) -> list[GoldRow]:
    """Rows whose answer is right with the probability that its score says, or 0.9 without a score."""
    rows = []
    for _ in range(count):
        score = float(random.uniform(0.4, 1)) if scored else 1.0
        answer = str(random.choice(LABELS))
        right = random.random() < (score if scored else 0.9)
        others = [label for label in LABELS if label != answer]
        rows.append(GoldRow(answer if right else str(random.choice(others)), Vote(answer, score), (answer,)))
    return rows


@pytest.mark.parametrize(("precision", "scored"), [(0.7, True), (0.9, False), (0.85, False)])
def test_a_promise_holds_on_new_rows(precision: float, scored: bool) -> None:
    random = np.random.default_rng(7)
    new = gold_rows(20_000, random, scored=scored)
    right = {
        label: np.array([(row.vote.score, row.gold == label) for row in new if row.vote.label == label])
        for label in LABELS
    }
    broken = given = 0
    for _ in range(100):
        report = held_to_gold(
            gold_rows(300, random, scored=scored), LABELS, precision=precision, doubt=0.05, orders=1
        )
        holds = True
        for label, one in by_label(report).items():
            if one.threshold is None:
                continue
            given += 1
            kept = right[label][right[label][:, 0] >= one.threshold]
            holds &= bool(kept[:, 1].mean() >= precision)
        broken += not holds
    assert broken <= 5
    # At 0.9 exactly the promise is true of no label by more than chance; elsewhere it has to be of use.
    assert given > 50 or precision == 0.9


def test_the_probability_of_a_label_is_that_of_its_gold_rows() -> None:
    rows = [GoldRow("a", Vote("a", 1.0), ("a",))] * 8 + [GoldRow("b", Vote("a", 1.0), ("a",))] * 2
    report = held_to_gold(
        [*rows, GoldRow("x", Vote("b", 1.0), ("b",))], LABELS, precision=None, doubt=0.05, orders=1
    )
    assert (report.rows, report.rows_of_other_labels, report.right) == (10, 1, 8)
    outcome = decide(
        [PlannedRow(("k",), None), PlannedRow(("l",), None), PlannedRow(("m",), "a")],
        [Vote("a", 1.0), Vote("c", 1.0), Vote("b", 1.0)],
        report,
    )
    assert [(row.label, row.source, row.probability) for row in outcome.rows] == [
        ("a", "llm", 0.75),  # (8 + 1) / (10 + 2)
        ("c", "llm", 0.5),
        ("a", "gold", 1.0),
    ]
    assert outcome.rows[2].reason == "gold differs"


def answer(label: str | None, status: str = "answered", **probabilities: float) -> LabelAnswer:
    return LabelAnswer(status, label, probabilities or None, 1, 1)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([answer("a")], Vote("a", 1.0)),
        ([answer("a"), answer("a")], Vote("a", 1.0)),
        ([answer("a"), answer("b")], Vote(None, 0.0)),
        ([answer("a"), answer(None)], Vote(None, 0.0)),
        ([answer("a"), answer("a"), answer(None)], Vote("a", 0.666666667)),
        ([answer("a"), None], Vote("a", 0.5)),
        ([None], Vote(None, 0.0, "budget")),
        ([answer(None, "invalid")], Vote(None, 0.0, "invalid")),
        ([answer("a", a=0.5, b=0.3, c=0.2), answer("b", a=0.2, b=0.5, c=0.3)], Vote("b", 0.4)),
        ([answer(None, **{"a": 0.4, "cannot tell": 0.6})], Vote(None, 0.0)),
    ],
)
def test_answers_are_taken_together(answers: list[LabelAnswer | None], expected: Vote) -> None:
    assert vote(answers, ["budget"], dict.fromkeys(LABELS, "")) == expected
