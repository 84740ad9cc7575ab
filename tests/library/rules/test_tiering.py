"""Cheap models first: the budget is kept on new rows, or nothing changes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from modelmill.artifacts import TableRef
from modelmill.errors import ConfigError
from modelmill.pipeline.component import StepContext
from modelmill.rules.components import DecideConfig, DecideInputs, TierRulesConfig, TrialInputs
from modelmill.rules.deciding import Deciding
from modelmill.rules.deciding import run as decide
from modelmill.rules.registered import open_rule_set
from modelmill.rules.rule_set import ModelSignal, RuleSet
from modelmill.rules.tiering import learn_tiers, run
from modelmill.rules.trying import Evaluated
from modelmill.settings import Settings
from modelmill.signals.pins import pin_models

SPORT, TRADE = ("goal", "match", "team"), ("bank", "share", "price")


def some_rows(count: int, seed: int) -> pa.RecordBatch:
    random = np.random.default_rng(seed)
    texts = [" ".join(random.choice(SPORT if random.random() < 0.5 else TRADE, 6)) for _ in range(count)]
    return pa.RecordBatch.from_pydict({"id": list(range(count)), "text": texts})


@pytest.fixture
def made(make_bundle: Callable[..., Path], settings: Settings) -> tuple[Deciding, dict[str, Any]]:
    names = {name: str(make_bundle(name, skill=skill)) for name, skill in (("full", 1.0), ("cheap", 0.5))}
    names["wrong"] = str(make_bundle("wrong", skill=-1.0))
    content = {
        "rule_set": "r",
        "key": "id",
        "signals": {
            "trade": {"kind": "model", "column": "text", "model": names["full"], "label": "trade"},
        },
        "rules": [{"name": "trade", "when": "trade > 0.5", "then": "take"}],
        "default": "leave",
    }
    pins = pin_models(names.values(), settings)
    rule_set = RuleSet.model_validate(content)
    deciding = Deciding(rule_set=rule_set, pins={names["full"]: pins[names["full"]]})
    return deciding, {"names": names, "pins": pins}


def test_a_budget_is_kept_on_new_rows(made: tuple[Deciding, dict[str, Any]]) -> None:
    deciding, more = made
    tiers = learn_tiers(deciding, some_rows(800, 0), {"trade": more["names"]["cheap"]}, more["pins"])
    assert tiers.margin is not None
    assert tiers.bound <= 0.005
    assert tiers.saved > 0.3
    rows = some_rows(2000, 1)
    pinned = deciding.model_copy(update={"rule_set": tiers.rule_set, "pins": more["pins"]})
    found = Evaluated(pinned.engine(rows.schema), rows).decisions()
    expected = Evaluated(deciding.engine(rows.schema), rows).decisions()
    changed = sum(one != other for one, other in zip(found.to_pylist(), expected.to_pylist(), strict=True))
    assert changed / 2000 <= 0.005


def test_nothing_changes_where_it_cannot_be_shown(made: tuple[Deciding, dict[str, Any]]) -> None:
    deciding, more = made
    names = more["names"]
    few = learn_tiers(deciding, some_rows(100, 0), {"trade": names["cheap"]}, more["pins"])
    assert (few.margin, few.rule_set.digest) == (None, deciding.rule_set.digest)
    wrong = learn_tiers(deciding, some_rows(800, 0), {"trade": names["wrong"]}, more["pins"])
    assert (wrong.margin, wrong.rule_set.digest) == (None, deciding.rule_set.digest)
    with pytest.raises(ConfigError, match="did you mean 'trade'"):
        learn_tiers(deciding, some_rows(10, 0), {"trad": names["cheap"]}, more["pins"])


def test_the_step_logs_a_rule_set_that_decides(
    made: tuple[Deciding, dict[str, Any]], tmp_path: Path, step_context: StepContext
) -> None:
    deciding, more = made
    place = tmp_path / "rules.json"
    place.write_text(deciding.rule_set.model_dump_json(exclude_defaults=False))
    write_deltalake(str(tmp_path / "rows"), pa.Table.from_batches([some_rows(800, 0)]))
    table = TableRef(uri=str(tmp_path / "rows"), version=0)
    config = TierRulesConfig(rule_set=str(place), first={"trade": more["names"]["cheap"]})
    found = run(config, TrialInputs(table=table), step_context)
    assert found.role == "rule_set"
    tiered = open_rule_set(found.uri, step_context.settings)
    signal = tiered.signals["trade"]
    assert isinstance(signal, ModelSignal)
    assert signal.first is not None
    assert signal.first.model == more["names"]["cheap"]
    context = dataclasses.replace(step_context, step_key="b" * 64)
    decided = decide(
        DecideConfig(to=str(tmp_path / "out"), explain=False),
        DecideInputs(table=table, rule_set=found),
        context,
    )
    assert decided.version == 0
    with pytest.raises(ConfigError, match="a cheap model must exist"):
        run(config.model_copy(update={"first": {"trade": "nowhere"}}), TrialInputs(table=table), context)
    assert json.loads(place.read_text())["signals"]["trade"].get("first") is None
