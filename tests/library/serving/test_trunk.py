"""Many signals on one trunk in the service: one pass answers all, and a new head leaves the others alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from modelmill.artifacts import ModelRef
from modelmill.compression.trunk import make_trunk
from modelmill.models import trunk as shared
from modelmill.models.base_model import load_base_model
from modelmill.models.bundle import BundleInfo
from modelmill.models.onnx_session import RowSession
from modelmill.registry.bundles import log_model
from modelmill.registry.versions import register

SIGNALS = 7
TEXTS = ["goal team", "a loan", "the bank said", "goal team", None]


@pytest.fixture
def add_head(registry: Any, tiny_base_model: Path, tmp_path: Path) -> Callable[[str, int], int]:
    """Return a function that registers a head with random weights, and makes it champion."""
    base = load_base_model(str(tiny_base_model), max_tokens=16, dropout=0.0)
    folder, width = tmp_path / "trunk", base.encoder.config.hidden_size
    make_trunk(base.encoder, folder, tokenizer=base.tokenizer, text="body", max_tokens=16)
    trunk: ModelRef = log_model(folder, role="trunk", context=registry.context)

    def add(name: str, seed: int) -> int:
        head = tmp_path / f"head-{name}-{seed}"
        head.mkdir()
        weight = np.random.default_rng(seed).normal(size=(2, width)).astype(np.float32)
        save_file({"weight": weight, "bias": np.zeros(2, np.float32)}, head / "head.safetensors")
        BundleInfo(
            format="head",
            label=name,
            classes=("no", "yes"),
            text="body",
            max_tokens=16,
            parameters=2 * width + 2,
            features=width,
            head="linear",
            trunk=trunk.digest,
        ).save(head)
        model = log_model(head, role="head", dataset=registry.dataset, context=registry.context, trunk=trunk)
        version = int(register(registry.context.run.client, name, model).version)
        registry.move(name, version)
        return version

    return add


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
