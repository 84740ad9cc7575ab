"""Reports of evaluations and gates for each kind of label, to the last digit, as a golden file has them.

After a change that is meant: ``UPDATE_GOLDEN=1 pytest tests/library/registry/test_frozen_reports.py``, and
read the difference.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from modelmill.artifacts import DatasetRef, ModelRef
from modelmill.component import StepContext
from modelmill.pipeline.catalogue import catalogue
from modelmill.registry.bundles import log_model

GOLDEN = Path(__file__).with_name("frozen_reports.golden.json")
DIGITS = 12
"""Significant digits that are compared: libraries of other processors add up in another order."""


@pytest.fixture
def dataset(tmp_path: Path, topic_rows: Callable[..., list[tuple[str, str]]], target: str) -> DatasetRef:
    """240 texts. Every ninth label is another one than the text says, some rows have none at all."""
    rows = topic_rows(240, seed=3)
    noise = np.random.default_rng(1).normal(size=len(rows))
    labels: dict[str, Any] = {
        "class": pa.array(
            [
                None if n % 31 == 0 else "weather" if n % 29 == 0 else "trade" if n % 9 == 0 else topic
                for n, (_, topic) in enumerate(rows)
            ]
        ),
        "classes": pa.array(
            [
                None
                if n % 31 == 0
                else [topic, "weather"]
                if n % 29 == 0
                else ["sport", "trade"]
                if n % 9 == 0
                else [topic]
                if n % 17
                else []
                for n, (_, topic) in enumerate(rows)
            ],
            pa.list_(pa.string()),
        ),
        "number": pa.array(
            [
                None if n % 31 == 0 else 2.0 * (topic == "sport") + 0.3 * noise[n]
                for n, (_, topic) in enumerate(rows)
            ]
        ),
    }
    splits = ["train", "test", "validation", "test", "train"] * 48
    columns = {
        "id": [f"row-{number:03d}" for number in range(len(rows))],
        "body": [text for text, _ in rows],
        "topic": labels[target],
        "desk": [f"desk-{number // 7 % 4}" if number % 40 else None for number in range(len(rows))],
        "split": splits,
    }
    uri = str(tmp_path / "tables" / "frozen")
    write_deltalake(uri, pa.table(columns))
    return DatasetRef(uri=uri, version=0, key="id", text="body", labels=("topic",), split="split")


@pytest.mark.parametrize("target", ["class", "classes", "number"])
def test_reports_are_as_the_golden_file_has_them(
    target: Any,
    dataset: DatasetRef,
    make_bundle: Callable[..., Path],
    step_context: StepContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "modelmill.evaluation.latency._turn",
        lambda scorer, texts: (len(texts) / (50.0 * scorer.info.parameters), len(texts) / 3000),
    )
    lines: list[str] = []
    context = replace(step_context, log=lines.append)

    def logged(name: str, role: str, parent: ModelRef | None = None, **how: float) -> ModelRef:
        bundle = make_bundle(name, target=target, **how)
        return log_model(bundle, role=role, dataset=dataset, context=context, parent=parent)

    first = logged("first", "teacher", tweak=0.01)
    second = logged("second", "exported", first, skill=0.5, tweak=0.02)
    worse = logged("worse", "exported", first, skill=-1.0, tweak=-0.03)
    found: dict[str, Any] = {}
    evaluate, gate, promote = (catalogue()[name] for name in ("evaluate", "gate", "promote"))
    config = evaluate.config.model_validate({"resamples": 300})
    inputs = evaluate.inputs(dataset=dataset, models=(first, second, worse))
    report = evaluate.run(config, inputs, context).report
    found["evaluation"] = json.loads(mlflow.artifacts.load_text(report.uri))
    found["metrics"] = context.run.client.get_run(context.run.run_id).data.metrics
    config = gate.config.model_validate(
        {
            "name": "frozen",
            "resamples": 300,
            "metric": "macro_f1" if target == "classes" else "accuracy",
            "max_below_baseline": 0.5,
            "proof": target == "number",
            "checks": [
                {"check": "size", "max_ratio": 0.9, "max_mb": 1},
                {"check": "slice", "column": "desk", "min_rows": 10},
                {"check": "calibration", "max_error": 0.2},
            ],
        }
    )
    verdict = gate.run(
        config.model_copy(update={"max_drop": 0.9, "proof": False}),
        gate.inputs(dataset=dataset, challenger=first),
        context,
    ).verdict
    promote.run(
        promote.config(), promote.inputs(verdict=verdict.model_copy(update={"passed": True})), context
    )
    for name, challenger in {"second": second, "worse": worse}.items():
        verdict = gate.run(config, gate.inputs(dataset=dataset, challenger=challenger), context).verdict
        content = json.loads(mlflow.artifacts.load_text(verdict.uri))
        found[f"gate of {name}"] = {"report": content, "verdict": verdict.model_dump(mode="json")}
    found["log"] = [line for line in lines if "tokenised" not in line]
    if os.environ.get("FROZEN_TO"):  # a folder: what was found, every digit of it
        Path(os.environ["FROZEN_TO"], f"{target}.json").write_text(as_text(found, dataset))
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if os.environ.get("UPDATE_GOLDEN"):
        golden[target] = json.loads(as_text(found, dataset))
        GOLDEN.write_text(json.dumps(golden, indent=1, ensure_ascii=False) + "\n")
    assert rounded(json.loads(as_text(found, dataset))) == rounded(golden[target])


def as_text(found: Any, dataset: DatasetRef) -> str:
    """Return what was found without the names that change with each run."""
    text = json.dumps(found, indent=1).replace(dataset.uri, "DATASET")
    for pattern in (r"m-[0-9a-f]{32}", r"\b[0-9a-f]{64}\b", r"\b[0-9a-f]{32}\b"):
        for place, name in enumerate(dict.fromkeys(re.findall(pattern, text))):
            short = name[:10] if name.startswith("m-") else name
            text = text.replace(name, f"ID{place}").replace(short, f"ID{place}")
    return text


def rounded(value: Any) -> Any:
    """Return a JSON value, numbers rounded to :data:`DIGITS`."""
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
