"""Cheap models first: the budget is kept on new rows, or nothing changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from modelmill.errors import ConfigError
from modelmill.rules.deciding import Deciding
from modelmill.rules.rule_set import RuleSet
from modelmill.rules.tiering import learn_tiers
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
