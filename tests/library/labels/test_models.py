"""The label models: what they learn of planted functions, and which of them is used."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from modelmill.evaluation.statistics import Proportion
from modelmill.labels.models import fit_majority_vote, fit_weighted, most_probable, uncertainty
from modelmill.labels.report import (
    choose_model,
    disagree,
    function_reports,
    functions_figure,
    gold_answers,
    model_report,
)
from modelmill.labels.votes import Functions, VoteCounts

CLASSES = "abcdef"


class Planted:
    """Rows whose functions fire independently of each other, given the label, at known rates."""

    def __init__(
        self, rates: list[tuple[float, float]], *, shares: list[float], rows: int = 20_000, gold: int = 0
    ) -> None:
        draw = np.random.default_rng(0)
        self.truth = draw.choice(len(shares), rows, p=shares)
        voted = np.arange(len(rates)) % len(shares)
        own, other = np.array(rates).T
        rate = np.where(self.truth[:, None] == voted, own, other)
        self.fired = draw.random(rate.shape) < rate
        self.accuracy = [(self.truth[self.fired[:, n]] == voted[n]).mean() for n in range(len(rates))]
        names = tuple(f"f{number}" for number in range(len(rates)))
        self.functions = Functions(names, tuple(CLASSES[number] for number in voted))
        patterns = ["".join("01"[int(bit)] for bit in row) for row in self.fired]
        self.counted = [
            (pattern, CLASSES[self.truth[row]] if row < gold else None, 1)
            for row, pattern in enumerate(patterns)
        ]
        self.counts = VoteCounts.of(self.functions, self.counted)

    def right(self, model: Any) -> float:
        """Share of the rows with a vote whose most probable label is the true one."""
        voted = self.fired.any(axis=1)
        answers = most_probable(model.probabilities(self.fired), model.balance)
        return float((answers == self.truth)[voted].mean())


GOOD_AND_WEAK = [(0.6, 0.02)] * 2 + [(0.3, 0.15)] * 2 + [(0.5, 0.1)] * 2


def test_accuracies_are_learnt_without_a_label() -> None:
    planted = Planted(GOOD_AND_WEAK, shares=[0.5, 0.5])
    model = fit_weighted(planted.counts)
    assert model.accuracy == pytest.approx(planted.accuracy, abs=0.03)
    assert planted.right(model) > planted.right(fit_majority_vote(planted.counts)) + 0.02


def test_a_known_class_balance_mends_what_the_votes_cannot_show() -> None:
    rates = [(0.6, 0.02)] * 3 + [(0.3, 0.15)] * 6
    planted = Planted(rates, shares=[0.6, 0.3, 0.1])
    known = fit_weighted(planted.counts, balance={"a": 0.6, "b": 0.3, "c": 0.1})
    unknown = fit_weighted(planted.counts)
    error = [np.abs(np.array(model.accuracy) - planted.accuracy).max() for model in (known, unknown)]
    assert error[0] < 0.12 < error[1]
    assert planted.right(known) > planted.right(fit_majority_vote(planted.counts)) + 0.03


def test_a_function_that_is_worse_than_chance_is_not_believed() -> None:
    planted = Planted([*GOOD_AND_WEAK, (0.1, 0.4), (0.1, 0.4)], shares=[0.5, 0.5])
    model = fit_weighted(planted.counts)
    assert model.accuracy[-2:] == pytest.approx((0.5, 0.5), abs=0.05)
    assert planted.right(model) > planted.right(fit_majority_vote(planted.counts)) + 0.1


def test_the_model_does_not_depend_on_the_order_of_the_counts() -> None:
    planted = Planted(GOOD_AND_WEAK, shares=[0.5, 0.5], rows=500, gold=50)
    other = VoteCounts.of(planted.functions, planted.counted[::-1])
    assert fit_weighted(other) == fit_weighted(planted.counts)
    assert other.gold == planted.counts.gold


def test_functions_that_never_meet_or_never_vote_keep_the_prior() -> None:
    functions = Functions(("a", "b", "silent"), ("x", "y", "y"))
    counts = VoteCounts.of(functions, [("100", None, 50), ("010", None, 30), ("000", None, 20)])
    model = fit_weighted(counts)
    assert model.accuracy[2] == 0.8
    assert all(0.5 < accuracy < 1 for accuracy in model.accuracy)
    probabilities = model.probabilities(counts.fired)
    assert probabilities.sum(axis=1) == pytest.approx([0, 1, 1])
    assert most_probable(probabilities, model.balance)[1:].tolist() == [1, 0]


def test_a_majority_vote_counts_and_the_frequent_class_wins_a_tie() -> None:
    functions = Functions(("a", "b", "c"), ("x", "y", "y"))
    counts = VoteCounts.of(
        functions, [("110", None, 5), ("111", None, 3), ("011", None, 2), ("000", None, 9)]
    )
    model = fit_majority_vote(counts)
    assert model.probabilities(counts.fired).tolist() == [
        [0, 0],
        [0, 1],
        [0.5, 0.5],
        [pytest.approx(1 / 3), pytest.approx(2 / 3)],
    ]
    assert most_probable(model.probabilities(counts.fired), model.balance)[1:].tolist() == [1, 1, 1]
    assert uncertainty(model.probabilities(counts.fired)) == pytest.approx([0, 0, 1, 0.918296], abs=1e-6)


def counts_with_gold() -> VoteCounts:
    functions = Functions(("a", "b", "c"), ("x", "y", "y"))
    counted: list[tuple[str, str | None, int]] = [
        ("100", "x", 8),
        ("100", "y", 2),
        ("011", "y", 5),
        ("110", "z", 1),
        ("110", None, 4),
        ("000", "x", 3),
        ("000", None, 77),
    ]
    return VoteCounts.of(functions, counted)


def test_functions_are_described_by_votes_and_gold() -> None:
    counts = counts_with_gold()
    one, two, _ = function_reports(counts, None)
    assert (one.coverage, one.overlaps, one.conflicts) == (0.15, 0.05, 0.05)
    assert (two.coverage, two.overlaps, two.conflicts) == (0.1, 0.1, 0.05)
    assert one.gold_accuracy == Proportion.of(8, 11)
    assert two.gold_accuracy == Proportion.of(5, 6)
    assert one.learnt_accuracy is None
    assert disagree(counts).tolist() == [False, False, False, True]
    assert Proportion.of(0, 0) is None
    share = Proportion.of(5, 5)  # Wilson's interval knows that five rows prove little
    assert share is not None
    assert (share.value, share.high) == (1, 1)
    assert share.low == pytest.approx(0.5655, abs=1e-4)


def test_gold_rows_without_a_vote_judge_nobody() -> None:
    counts = counts_with_gold()
    majority = fit_majority_vote(counts)
    truth, answers, sure = gold_answers(counts, majority)
    assert truth == ["y"] * 5 + ["x"] * 8 + ["y"] * 2 + ["z"]
    assert answers == ["y"] * 5 + ["x"] * 10 + ["x"]
    report = model_report(counts, majority, threshold=0.5)
    assert report.accuracy == Proportion.of(13, 16)
    assert report.labelled == Proportion.of(15, 16)
    assert report.accuracy_labelled == Proportion.of(13, 15)
    assert sure[-1] == 0.5


def test_the_better_model_is_used_and_the_simpler_one_in_a_tie() -> None:
    planted = Planted(GOOD_AND_WEAK, shares=[0.5, 0.5], gold=2000)
    majority, weighted = fit_majority_vote(planted.counts), fit_weighted(planted.counts)
    model, reason, difference = choose_model(planted.counts, majority, weighted, wanted="best")
    assert model is weighted
    assert reason == "it gets more gold rows right than a majority vote"
    assert difference is not None
    assert 0 < difference.low <= difference.value <= difference.high
    assert choose_model(planted.counts, majority, weighted, wanted="majority_vote")[0] is majority
    upside_down = weighted.model_copy(update={"accuracy": (0.1,) * 6})
    model, reason, _ = choose_model(planted.counts, majority, upside_down, wanted="best")
    assert model is majority
    assert reason == "it gets more gold rows right than the weighted model"

    counts = counts_with_gold()
    same = fit_majority_vote(counts)
    model, reason, _ = choose_model(counts, same, fit_weighted(counts), wanted="best")
    assert model is same
    assert "simpler" in reason

    bare = Planted(GOOD_AND_WEAK, shares=[0.5, 0.5], rows=500)
    model, reason, difference = choose_model(
        bare.counts, fit_majority_vote(bare.counts), fit_weighted(bare.counts), wanted="best"
    )
    assert model.name == "majority_vote"
    assert reason.startswith("no gold row has a vote")
    assert difference is None


def test_the_plot_shows_votes_and_accuracies() -> None:
    counts = counts_with_gold()
    left, right = functions_figure(function_reports(counts, fit_weighted(counts))).axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["a → x", "b → y", "c → y"]
    assert [round(bar.get_width()) for bar in left.patches] == [15, 10, 5, 5, 10, 5, 5, 5, 0]
    assert len(right.lines) == 9
    left, right = functions_figure(
        function_reports(VoteCounts.of(counts.functions, [("100", None, 1)]), None)
    ).axes
    assert not right.lines
