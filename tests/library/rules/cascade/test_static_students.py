"""Students of a rule set's models: made of texts without labels, asked first as far as a budget allows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from modelmill.artifacts import SignalsRef, TableRef
from modelmill.component import StepContext
from modelmill.errors import ConfigError
from modelmill.models.bundle import BundleInfo
from modelmill.models.scorers import load_scorer
from modelmill.registry.bundles import fetch_bundle
from modelmill.registry.signal_models import read_signals
from modelmill.rules.lifecycle.registered_rule_sets import open_rule_set
from modelmill.rules.rule_set import RuleSet
from modelmill.signals.model_config import ModelSignal
from modelmill.steps.decide import DecideConfig, DecideInputs
from modelmill.steps.decide import run as decide
from modelmill.steps.ports import TrialInputs
from modelmill.steps.signal_students import SignalStudentsConfig
from modelmill.steps.signal_students import run as make_students
from modelmill.steps.tier_rules import TierRulesConfig, TierRulesInputs
from modelmill.steps.tier_rules import run as tier

SPORT = ("goal", "match", "team", "score", "league", "coach")
TRADE = ("bank", "share", "price", "profit", "market", "loan")
ROWS = 2400


def some_table(place: Path, *, seed: int, rows: int = ROWS) -> TableRef:
    random = np.random.default_rng(seed)
    texts: list[str | None] = []
    for _ in range(rows):
        mine, other = (SPORT, TRADE) if random.random() < 0.5 else (TRADE, SPORT)
        mixed = (*mine, *other[:1]) if random.random() < 0.1 else mine
        texts.append(" ".join(random.choice(mixed, random.integers(1, 7))))
    texts[:2] = [None, "  "]
    write_deltalake(str(place), pa.table({"id": list(range(rows)), "text": texts, "other": texts}))
    return TableRef(uri=str(place), version=0)


@pytest.fixture
def rules(make_bundle: Callable[..., Path], tmp_path: Path) -> Callable[..., str]:
    """Return a function that writes a rule set on two models, one of which reads fewer tokens."""
    model = {name: str(make_bundle(name, skill=skill)) for name, skill in (("full", 1.0), ("half", 0.5))}
    short = Path(model["half"], "modelmill.json")
    short.write_text(short.read_text().replace('"max_tokens": 32', '"max_tokens": 12'))
    assert BundleInfo.load(short.parent).max_tokens == 12

    def write(*whens: str, **changes: dict[str, Any]) -> str:
        signals = {
            "trade": {"kind": "model", "column": "text", "model": model["full"], "label": "trade"},
            "sport": {"kind": "model", "column": "text", "model": model["half"], "label": "sport"},
            "there": {"kind": "model", "column": "other", "model": model["full"], "label": "trade"},
            "named": {"kind": "model", "column": "text", "model": model["full"], "output": "label"},
        }
        for name, change in changes.items():
            signals[name].update(change)
        rules = [{"name": f"r{n}", "when": when, "then": f"d{n}"} for n, when in enumerate(whens)]
        found = {"rule_set": "r", "key": "id", "signals": signals, "rules": rules, "default": "leave"}
        place = tmp_path / "rules.json"
        place.write_text(RuleSet.model_validate(found).model_dump_json())
        return str(place)

    return write


def another_step(context: StepContext, letter: str) -> StepContext:
    return dataclasses.replace(context, step_key=letter * 64)


def test_students_are_asked_first(
    rules: Callable[..., str], tmp_path: Path, step_context: StepContext
) -> None:
    source = rules("trade > 0.6 OR there > 0.6", "sport > 0.6")
    texts, held = some_table(tmp_path / "texts", seed=0), some_table(tmp_path / "held", seed=1)
    config = SignalStudentsConfig(rule_set=source, penalty=0.01)
    students = make_students(config, TrialInputs(table=texts), step_context).signals
    assert isinstance(students, SignalsRef)
    models = read_signals(students)
    assert sorted(models) == ["sport", "there", "trade"], "a label has no threshold"
    assert {(model.role, model.format) for model in models.values()} == {("student", "static")}

    context = another_step(step_context, "b")
    inputs = TierRulesInputs(table=held, first=students)
    tiered = tier(TierRulesConfig(rule_set=source), inputs, context).rule_set
    signals = open_rule_set(tiered.uri, context.settings).signals
    firsts = {
        name: one.first.model for name, one in signals.items() if isinstance(one, ModelSignal) and one.first
    }
    assert firsts == {name: model.uri for name, model in models.items()}

    # As shipped, with nothing of the steps at hand but MLflow.
    new = some_table(tmp_path / "new", seed=2)
    decided = {}
    for letter, config, inputs in (
        ("c", DecideConfig(rule_set=source, to=str(tmp_path / "plain")), DecideInputs(table=new)),
        ("d", DecideConfig(to=str(tmp_path / "tiered")), DecideInputs(table=new, rule_set=tiered)),
    ):
        table = decide(config, inputs, another_step(step_context, letter)).table
        decided[letter] = dict(zip(*(read_column(table, name) for name in ("id", "decision")), strict=True))
    assert set(decided["c"]) == set(range(ROWS))
    assert np.mean([decided["c"][row] != decided["d"][row] for row in range(ROWS)]) <= 0.005


def read_column(table: TableRef, name: str) -> list[Any]:
    from modelmill.tables.reading import read_arrow

    return list(read_arrow(table, columns=[name]).column(name).to_pylist())


def test_a_student_learns_the_side_of_the_thresholds(
    rules: Callable[..., str], tmp_path: Path, step_context: StepContext
) -> None:
    texts = some_table(tmp_path / "texts", seed=0)
    source = rules("trade > 0.9", "trade < 0.2", trade={"abstain": {"low": 0.45, "high": 0.55}})
    config = SignalStudentsConfig(rule_set=source, signals=("trade",), penalty=0.001)
    (model,) = read_signals(make_students(config, TrialInputs(table=texts), step_context).signals).values()
    folder = fetch_bundle(model, step_context.cache)
    scorer = load_scorer(folder)
    assert scorer.info.classes == ("not trade", "trade")
    assert (scorer.info.text, scorer.info.label) == ("text", "trade")
    sure = scorer.info.probabilities(scorer.logits(["bank loan share", "goal match team"]))[:, 1]
    assert sure[0] > 0.9
    assert sure[1] < 0.1


def test_what_cannot_have_a_student_is_left_out_and_said(
    rules: Callable[..., str], tmp_path: Path, step_context: StepContext
) -> None:
    lines: list[str] = []
    context = dataclasses.replace(step_context, log=lines.append)
    texts = pa.table(
        {"id": [1, 2, 3], "text": ["goal team", "bank", None], "other": pa.nulls(3, pa.string())}
    )
    write_deltalake(str(tmp_path / "texts"), texts)
    inputs = TrialInputs(table=TableRef(uri=str(tmp_path / "texts"), version=0))
    source = rules(
        "trade > 0.9 OR there > 0.9 OR named = 'x'", "sport > 0.5", sport={"model": str(tmp_path / "gone")}
    )
    found = make_students(SignalStudentsConfig(rule_set=source), inputs, context).signals
    assert list(read_signals(found)) == ["trade"]
    assert [line.split(": ")[0] for line in lines if line.startswith("no student")] == [
        "no student of sport",
        "no student of there",
    ]
    with pytest.raises(ConfigError, match="the model of a signal must exist"):
        make_students(SignalStudentsConfig(rule_set=source, signals=("trade", "sport")), inputs, context)


def test_what_is_asked_for_and_cannot_have_a_student_is_refused(
    rules: Callable[..., str], tmp_path: Path, step_context: StepContext
) -> None:
    texts = TrialInputs(table=some_table(tmp_path / "texts", seed=0, rows=50))

    def refused(source: str, *signals: str, inputs: TrialInputs = texts) -> str:
        with pytest.raises(ConfigError) as caught:
            make_students(SignalStudentsConfig(rule_set=source, signals=signals), inputs, step_context)
        return str(caught.value)

    source = rules("trade > 0.9", "sport * 2 > 1")
    assert "did you mean 'trade'" in refused(source, "trad")
    assert "answers with a probability; got 'named'" in refused(source, "named")
    assert "got 'sport, whose value they use'" in refused(source, "sport")
    assert "a signal that a rule reads; got 'there'" in refused(source, "there")
    assert "got 'trade, compared with 1 only'" in refused(rules("trade >= 1"), "trade")
    assert "got 'trade, without a threshold'" in refused(rules("trade IS NULL"), "trade")
    assert "sport: a cheap model stands before" in refused(rules("sport * 2 > 1"))
    assert "no rule that reads one" in refused(rules("named = 'trade'"))
    write_deltalake(
        str(tmp_path / "empty"),
        pa.table({"id": [1], "text": pa.array([None], pa.string()), "other": pa.array([""])}),
    )
    nothing = TrialInputs(table=TableRef(uri=str(tmp_path / "empty"), version=0))
    assert "none with a text in 'text'" in refused(rules("trade > 0.9"), "trade", inputs=nothing)
    with pytest.raises(ConfigError, match="connect a step signal_students"):
        tier(TierRulesConfig(rule_set=source), TierRulesInputs(table=texts.table), step_context)
