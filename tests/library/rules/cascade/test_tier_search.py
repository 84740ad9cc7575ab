"""Cheap models first: the budget is kept on new rows, or nothing changes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from modelmill.artifacts import TableRef
from modelmill.component import StepContext
from modelmill.errors import ConfigError, DatasetError, ModelmillError
from modelmill.rules.cascade.loss_budget import Loss, LossBudget
from modelmill.rules.cascade.tier_search import learn_tiers
from modelmill.rules.confidence_bounds import drop_bound
from modelmill.rules.lifecycle.registered_rule_sets import open_rule_set
from modelmill.rules.lifecycle.rule_statistics import right_decisions
from modelmill.rules.pinned_rule_set import PinnedRuleSet
from modelmill.rules.rule_set import RuleSet
from modelmill.settings import Settings
from modelmill.signals.model_config import ModelSignal
from modelmill.signals.model_groups import ModelGroup
from modelmill.signals.pinned_models import pin_models
from modelmill.steps.decide import DecideConfig, DecideInputs
from modelmill.steps.decide import run as decide
from modelmill.steps.tier_rules import TierRulesConfig, TierRulesInputs, run

SPORT = ("goal", "match", "team", "score", "league", "coach")
TRADE = ("bank", "share", "price", "profit", "market", "loan")
ROWS = 2400


def some_rows(count: int, seed: int) -> pa.RecordBatch:
    """Return texts of two topics; every tenth has words of the other one, too."""
    random = np.random.default_rng(seed)
    texts, topics = [], []
    for _ in range(count):
        mine, other = (SPORT, TRADE) if random.random() < 0.5 else (TRADE, SPORT)
        mixed = (*mine, *other[:1]) if random.random() < 0.1 else mine
        texts.append(" ".join(random.choice(mixed, random.integers(1, 7))))
        topics.append("sport" if mine is SPORT else "trade")
    return pa.RecordBatch.from_pydict({"id": list(range(count)), "text": texts, "topic": topics})


@pytest.fixture
def made(make_bundle: Callable[..., Path], settings: Settings) -> tuple[PinnedRuleSet, dict[str, Any]]:
    names = {name: str(make_bundle(name, skill=skill)) for name, skill in (("full", 1.0), ("cheap", 0.5))}
    names["wrong"] = str(make_bundle("wrong", skill=-1.0))
    pins = pin_models(names.values(), settings)
    return PinnedRuleSet(rule_set=rules_on(names["full"]), pins=pins), {
        "names": names,
        "pins": pins,
    }


def rules_on(full: str, when: str = "trade > 0.9", **more: Any) -> RuleSet:
    signal = {"kind": "model", "column": "text", "model": full, "label": "trade", **more}
    return RuleSet.model_validate(
        {
            "rule_set": "r",
            "key": "id",
            "signals": {"trade": signal},
            "rules": [{"name": "trade", "when": when, "then": "take"}],
            "default": "leave",
        }
    )


def decisions(deciding: PinnedRuleSet, rows: pa.RecordBatch) -> np.ndarray:
    return np.array(deciding.engine(rows.schema).decide(rows).column("decision").to_pylist())


def truth_of(rows: pa.RecordBatch) -> pa.Array:
    return right_decisions(rows.column("topic"), {"trade": "take", "sport": "leave"})


def test_a_budget_of_decisions_is_kept_on_new_rows(made: tuple[PinnedRuleSet, dict[str, Any]]) -> None:
    deciding, more = made
    tiers = learn_tiers(deciding, some_rows(ROWS, 0), {"trade": more["names"]["cheap"]}, LossBudget())
    assert tiers.below is not None
    assert tiers.drop is None
    assert tiers.changed <= tiers.bound <= 0.005
    assert tiers.saved > 0.3
    for seed in (1, 2, 3):
        rows = some_rows(ROWS, seed)
        pinned = deciding.with_rule_set(tiers.rule_set)
        assert (decisions(pinned, rows) != decisions(deciding, rows)).mean() <= 0.005


def test_what_is_learnt_is_what_the_engine_does(made: tuple[PinnedRuleSet, dict[str, Any]]) -> None:
    deciding, more = made
    rows = some_rows(ROWS, 0)
    tiers = learn_tiers(deciding, rows, {"trade": more["names"]["cheap"]}, LossBudget(0.05))
    tested = rows.take(pa.array(np.sort(np.random.default_rng(0).permutation(ROWS)[1::2])))
    pinned = deciding.with_rule_set(tiers.rule_set)
    engine = pinned.engine(rows.schema)
    (group,) = engine.groups.values()
    assert isinstance(group, ModelGroup)
    changed = (decisions(pinned, tested) != decisions(deciding, tested)).mean()
    assert changed == pytest.approx(tiers.changed)
    told = engine.groups[group.name].begin(tested).quick(["trade"], np.arange(tested.num_rows))["trade"]
    assert 1 - told.open.mean() == pytest.approx(tiers.saved)  # type: ignore[union-attr]


def test_half_a_probability_is_no_doubt_where_the_rules_ask_for_more(
    made: tuple[PinnedRuleSet, dict[str, Any]],
) -> None:
    deciding, more = made
    tiers = learn_tiers(deciding, some_rows(ROWS, 0), {"trade": more["names"]["cheap"]}, LossBudget())
    signal = tiers.rule_set.signals["trade"]
    assert isinstance(signal, ModelSignal)
    assert signal.first is not None
    ((doubt,),) = [signal.first.doubts]
    assert doubt.threshold == 0.9
    assert doubt.low < doubt.high


def test_a_budget_of_accuracy_lets_decisions_change(made: tuple[PinnedRuleSet, dict[str, Any]]) -> None:
    deciding, more = made
    names = more["names"]
    # Here the cheap model is the better one: what it changes is no loss.
    worse = deciding.with_rule_set(rules_on(names["cheap"]))
    rows, first = some_rows(ROWS, 0), {"trade": names["full"]}
    strict = learn_tiers(worse, rows, first, LossBudget())
    tiers = learn_tiers(worse, rows, first, LossBudget(accuracy=True), truth=truth_of(rows))
    assert tiers.below is not None
    assert tiers.drop is not None
    assert tiers.drop <= tiers.bound <= 0.005
    assert tiers.saved > strict.saved
    assert tiers.changed > 0.005
    new = some_rows(ROWS, 1)
    pinned = worse.with_rule_set(tiers.rule_set)
    truth = np.array(truth_of(new).to_pylist())
    drop = (decisions(worse, new) == truth).mean() - (decisions(pinned, new) == truth).mean()
    assert drop <= 0.005


def test_a_rule_that_fires_more_often_is_not_better_by_that_alone() -> None:
    budget = LossBudget(most=0.005, confidence=0.95, accuracy=True)
    fires = Loss(rows=3000, labelled=3000, gains=200, wronged=100)
    assert budget.bound(fires) > 0.005
    assert budget.bound(replace(fires, mended=120)) < 0.005
    assert budget.bound(replace(fires, gains=0, losses=60, wronged=0)) > 0.005
    assert budget.bound(Loss(rows=3000, changed=300, labelled=3000)) < 0.005
    assert LossBudget(0.005, 0.95, accuracy=False).bound(Loss(rows=3000, changed=30)) > 0.005


def test_nothing_changes_where_it_cannot_be_shown(made: tuple[PinnedRuleSet, dict[str, Any]]) -> None:
    deciding, more = made
    names, rows = more["names"], some_rows(ROWS, 0)
    wrong = learn_tiers(deciding, rows, {"trade": names["wrong"]}, LossBudget())
    assert (wrong.below, wrong.rule_set.digest) == (None, deciding.rule_set.digest)


def test_what_cannot_be_learnt_is_refused(made: tuple[PinnedRuleSet, dict[str, Any]]) -> None:
    deciding, more = made
    names, rows = more["names"], some_rows(ROWS, 0)
    first = {"trade": names["cheap"]}
    with pytest.raises(ConfigError, match="did you mean 'trade'"):
        learn_tiers(deciding, rows, {"trad": names["cheap"]}, LossBudget())
    with pytest.raises(DatasetError, match="takes 1,196 rows at least"):
        learn_tiers(deciding, rows.slice(0, 1195), first, LossBudget())
    nobody = pa.nulls(ROWS, pa.string())
    with pytest.raises(DatasetError, match="labelled rows at least"):
        learn_tiers(deciding, rows, first, LossBudget(accuracy=True), truth=nobody)
    for when, why in (
        ("trade IS NOT NULL", "without a threshold"),
        ("trade * 2 > 1.8", "whose value they use"),
    ):
        other = deciding.with_rule_set(rules_on(names["full"], when))
        with pytest.raises(ConfigError, match=why):
            learn_tiers(other, rows, first, LossBudget())


def test_the_bound_of_a_drop_holds() -> None:
    random = np.random.default_rng(0)
    losing, gaining, rows = 0.03, 0.026, 3000
    broken = 0
    for _ in range(400):
        losses, gains, _ = random.multinomial(rows, [losing, gaining, 1 - losing - gaining])
        broken += drop_bound(int(losses), int(gains), rows, doubt=0.1) < losing - gaining
    assert broken / 400 <= 0.1
    assert drop_bound(0, 0, 3000, doubt=0.05) < 0.005
    assert drop_bound(0, 300, 3000, doubt=0.05) < -0.08
    assert drop_bound(300, 0, 3000, doubt=0.05) > 0.1


def test_the_step_logs_a_rule_set_that_decides(
    made: tuple[PinnedRuleSet, dict[str, Any]], tmp_path: Path, step_context: StepContext
) -> None:
    deciding, more = made
    place = tmp_path / "rules.json"
    place.write_text(deciding.rule_set.model_dump_json(exclude_defaults=False))
    write_deltalake(str(tmp_path / "rows"), pa.Table.from_batches([some_rows(ROWS, 0)]))
    table = TableRef(uri=str(tmp_path / "rows"), version=0)
    config = TierRulesConfig(rule_set=str(place), first={"trade": more["names"]["cheap"]})
    found = run(config, TierRulesInputs(table=table), step_context).rule_set
    assert found.role == "rule_set"
    tiered = open_rule_set(found.uri, step_context.settings)
    signal = tiered.signals["trade"]
    assert isinstance(signal, ModelSignal)
    assert signal.first is not None
    assert signal.first.model == more["names"]["cheap"]
    context = dataclasses.replace(step_context, step_key="b" * 64)
    decided = decide(
        DecideConfig(to=str(tmp_path / "out")),
        DecideInputs(table=table, rule_set=found),
        context,
    )
    assert decided.table.version == 0
    with pytest.raises(ConfigError, match="a cheap model must exist"):
        run(config.model_copy(update={"first": {"trade": "nowhere"}}), TierRulesInputs(table=table), context)
    assert json.loads(place.read_text())["signals"]["trade"].get("first") is None


def test_a_step_needs_labels_for_a_budget_of_accuracy_alone(
    made: tuple[PinnedRuleSet, dict[str, Any]], tmp_path: Path, step_context: StepContext
) -> None:
    deciding, more = made
    place = tmp_path / "rules.json"
    place.write_text(deciding.rule_set.model_dump_json(exclude_defaults=False))
    write_deltalake(str(tmp_path / "rows"), pa.Table.from_batches([some_rows(ROWS, 0)]))
    inputs = TierRulesInputs(table=TableRef(uri=str(tmp_path / "rows"), version=0))
    config = TierRulesConfig(
        rule_set=str(place),
        first={"trade": more["names"]["cheap"]},
        budget_of="accuracy",
        label="topic",
        decision_of={"trade": "take", "sport": "leave"},
    )
    assert run(config, inputs, step_context).rule_set.role == "rule_set"
    for changes in ({"label": None}, {"budget_of": "decisions"}):
        with pytest.raises(ConfigError, match="measured by labels"):
            run(config.model_copy(update=changes), inputs, step_context)
    with pytest.raises(ModelmillError, match="topics"):
        run(config.model_copy(update={"label": "topics"}), inputs, step_context)
