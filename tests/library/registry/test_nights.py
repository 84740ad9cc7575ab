"""A champion that is challenged every night: promotions and refusals over the whole sequence."""

from __future__ import annotations

import importlib.util
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from modelmill.artifacts import ModelRef, VerdictRef
from modelmill.registry.approval import NOBODY, Approved, answered, last_approved, needs_answer, spent_at
from modelmill.registry.ledger import LedgerRow
from modelmill.registry.metric_comparisons import drop_p


def row(number: int, action: str, to: int | None, *reasons: str) -> LedgerRow:
    return LedgerRow.model_validate(
        {
            "action": action,
            "model": "topics",
            "from_version": None,
            "to_version": to,
            "digest": "",
            "reasons": reasons,
            "step_key": str(number),
            "who": "airflow",
            "number": number,
            "time": datetime(2026, 1, number, tzinfo=UTC),
            "seal": "",
        }
    )


def test_looks_are_counted_from_the_last_approval_by_a_person() -> None:
    assert last_approved([]) is None
    assert last_approved([row(1, "refuse", None, "worse")]) is None
    rows = [row(1, "promote", 1), row(2, "promote", 2), row(3, "refuse", 2, "worse")]
    assert last_approved(rows) == Approved(version=1, look=3)
    rows += [row(4, "promote", 3, f"approved by {NOBODY}: nobody can be asked")]
    assert last_approved(rows) == Approved(version=1, look=4)
    rows += [row(5, "promote", 4, "approved by ada: looks right")]
    assert last_approved(rows) == Approved(version=4, look=1)
    rows += [row(6, "hand_move", 2), row(7, "revert", 4), row(8, "refuse", 4, "rejected by ada: no")]
    assert last_approved(rows) == Approved(version=4, look=2)
    rows += [row(9, "rollback", 2, "slower")]
    assert last_approved(rows) == Approved(version=2, look=1)
    assert sum(spent_at(look, 0.05) for look in range(1, 100_000)) == pytest.approx(0.05, rel=1e-4)


def test_a_person_may_accept_what_the_rows_cannot_show() -> None:
    model = ModelRef(uri="models:/m-1", run_id="r", digest="d", format="onnx", role="exported")
    undecided = VerdictRef(
        passed=False,
        undecided=True,
        name="topics",
        challenger=model,
        champion_version=1,
        reasons=("not shown",),
        uri="",
        run_id="r",
    )
    assert needs_answer(undecided)
    assert not needs_answer(undecided.model_copy(update={"undecided": False}))
    assert answered(undecided, approved=True, who="ada", why="").passed
    assert not answered(undecided, approved=False, who="ada", why="").passed


def test_a_drop_is_passed_as_often_as_said() -> None:
    assert drop_p(0, 0, 400, 0.01) == pytest.approx(0.99**400)
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(2000, [0.015, 0.005, 0.98], size=2000)
    values = np.array([drop_p(int(lost), int(won), 2000, 0.01) for lost, won, _ in drawn])
    assert (values <= 0.05).mean() <= 0.06
    assert (values <= 0.01).mean() <= 0.014
    assert drop_p(10, 10, 20_000, 0.01) < 1e-9


def test_a_year_of_nights_promotes_nothing_worse_and_stops_a_drift(monkeypatch: pytest.MonkeyPatch) -> None:
    """benchmarks/gate.py does so with 200 seeds and several sizes."""
    place = Path(__file__).parents[3] / "benchmarks" / "gate.py"
    spec = importlib.util.spec_from_file_location("gate_benchmark", place)
    assert spec is not None
    assert spec.loader is not None
    benchmark = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, benchmark)
    spec.loader.exec_module(benchmark)
    worse = [benchmark.year([0.95, *[0.94] * 60], rows=2000, seed=seed) for seed in range(10)]
    assert sum(any(one.promoted) for one in worse) <= 2
    drift = [0.95 - 0.001 * night for night in range(16)]
    stopped = [benchmark.year(drift, rows=2000, seed=seed).promoted.index(False) + 1 for seed in range(10)]
    assert max(stopped) <= 10
    equal = benchmark.year([0.95] * 11, rows=20_000, seed=0)
    assert sum(equal.promoted) >= 8
