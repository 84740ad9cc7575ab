"""Many signals on one trunk in the service: one pass answers all, and a new head leaves the others alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd

from modelmill.models import trunk as shared
from modelmill.models.onnx_session import RowSession

SIGNALS = 7
TEXTS = ["goal team", "a loan", "the bank said", "goal team", None]


def test_one_pass_of_the_trunk_answers_all_signals(
    registry: Any, served: Callable[..., Any], add_head: Callable[[str, int], int], monkeypatch: Any
) -> None:
    names = [f"signal_{number}" for number in range(SIGNALS)]
    for seed, name in enumerate(names):
        add_head(name, seed)
    rows: list[int] = []
    trunks: list[Path] = []
    run, load = RowSession.run, shared.Trunk.__init__

    def counted(self: RowSession, tokens: Any, outputs: Sequence[str], use: Any) -> None:
        rows.append(len(tokens))
        run(self, tokens, outputs, use)

    def noted(self: shared.Trunk, folder: Path, **how: Any) -> None:
        trunks.append(folder)
        load(self, folder, **how)

    monkeypatch.setattr(shared.Trunk, "__init__", noted)
    with served(models=tuple(names)) as service:
        assert len(trunks) == 1
        monkeypatch.setattr(RowSession, "run", counted)
        before = service.predict(*TEXTS)
        assert sum(rows) in (3, 4)  # distinct texts; the same text in two batches is scored in each
        rows.clear()
        few = service.predict(*TEXTS, signals=names[:2])
        assert sum(rows) in (3, 4)
        monkeypatch.setattr(RowSession, "run", run)
        for row, short in zip(before["rows"], few["rows"], strict=True):
            assert short == {name: row[name] for name in names[:2]}

        # A new version of one head: the trunk is not loaded again, and the other signals stay what they are.
        assert add_head(names[3], 99) == 2
        service.service.follower.poll()
        assert len(trunks) == 1
        after = service.predict(*TEXTS)
    assert {name: by["version"] for name, by in after["models"].items() if by["version"] > 1} == {names[3]: 2}
    for row, later in zip(before["rows"], after["rows"], strict=True):
        assert {name: row[name] for name in names if name != names[3]} == {
            name: later[name] for name in names if name != names[3]
        }
    assert [row[names[3]] for row in before["rows"]] != [row[names[3]] for row in after["rows"]]
    for name in (names[0], names[3]):
        expected = mlflow.pyfunc.load_model(f"models:/{name}@champion").predict(pd.DataFrame({"body": TEXTS}))
        assert [row[name]["prediction"] for row in after["rows"]] == expected["prediction"].tolist()
        found = [row[name]["score"] for row in after["rows"]]
        assert found == [None if pd.isna(score) else score for score in expected["score"]]


def test_a_head_that_cannot_be_loaded_does_not_hold_up_the_others(
    registry: Any, served: Callable[..., Any], add_head: Callable[[str, int], int]
) -> None:
    for seed, name in enumerate(("first", "second", "third")):
        add_head(name, seed)
    version = add_head("second", 50)
    client = registry.context.run.client
    client.set_model_version_tag("second", str(version), "modelmill.digest", "0" * 64)
    with served(models=("first", "second", "third")) as service:
        assert service.client.get("/readyz").status_code == 503
        assert set(service.predict("goal")["models"]) == {"first", "third"}
        response = service.client.post("/v1/predict", json={"rows": [{"text": "x"}], "signals": ["second"]})
        assert response.status_code == 404
        registry.move("second", 1)
        service.service.follower.poll()
        assert service.client.get("/readyz").status_code == 200
        assert set(service.predict("goal")["models"]) == {"first", "second", "third"}
