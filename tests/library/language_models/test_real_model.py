"""The step against real servers. Their models are tiny, so nobody asks how right they are; no row is lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable, write_deltalake
from demo.samples import prepare_language_model
from demo.servers import LocalLlama, LocalTransformers

from modelmill.artifacts import TableRef
from modelmill.component import StepContext
from modelmill.steps.label_by_llm import LabelByLlmConfig, LabelByLlmInputs, LabelByLlmOutputs
from modelmill.steps.label_by_llm import run as run_step
from modelmill.tables.reading import read_arrow

ROWS = 24
MODEL = "smollm2-135m-2025-02-07"


def test_a_real_server_is_asked_with_a_schema(
    tmp_path: Path,
    news: TableRef,
    label: Callable[..., LabelByLlmOutputs],
    step_context: StepContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_deltalake(news.uri, read_arrow(news).slice(0, ROWS), mode="overwrite")
    some = TableRef(uri=news.uri, version=1)
    asked = {"gold": "gold", "asking": {"model": MODEL, "concurrency": 1}}
    said: list[str] = []
    context = replace(step_context, log=said.append)
    with LocalLlama(tmp_path / "llama", prepare_language_model(tmp_path)) as server:
        monkeypatch.setenv("MODELMILL_LLM_URL", f"{server.url}/v1")
        outputs = label(some, context, **asked)
    # The next night has nothing to ask: nobody listens any more.
    again = label(some, replace(context, step_key="1" * 64, workdir=tmp_path / "night"), **asked)
    found = read_arrow(outputs.table).to_pylist()
    assert {row["topic_answer"] for row in found} <= {"sport", "trade", None}
    path = context.run.client.download_artifacts(context.run.run_id, "labels.json")
    report: dict[str, Any] = json.loads(Path(path).read_text())
    unlabelled = sum(report["abstained"].values()) + sum(report["failed"].values())
    assert report["rows"] == report["rows_gold"] + report["rows_by_llm"] + unlabelled == ROWS
    assert report["failed"].get("lost", 0) == 0  # whatever it says, each request has its answer
    assert any("the order of the labels changes" in line for line in said)
    print("\n".join(said))
    assert read_arrow(again.table).to_pylist() == found


def test_a_real_server_answers_several_signals_in_one_object(
    tmp_path: Path, news: TableRef, step_context: StepContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = 12
    write_deltalake(news.uri, read_arrow(news).slice(0, rows), mode="overwrite")
    signals = {
        "topic": {"labels": {"sport": "games", "trade": "markets"}, "gold": "gold"},
        "mood": {"labels": {"good": "", "bad": "", "neither": ""}, "instructions": "How does it sound?"},
        "about people": {"labels": {"yes": "", "no": ""}},
    }
    asked = {"columns": ["body"], "budget": {"tokens": 10**6}, "asking": {"model": MODEL, "concurrency": 1}}
    said: list[str] = []
    with LocalLlama(tmp_path / "llama", prepare_language_model(tmp_path)) as server:
        monkeypatch.setenv("MODELMILL_LLM_URL", f"{server.url}/v1")
        outputs = run_step(
            LabelByLlmConfig.model_validate({**asked, "signals": signals}),
            LabelByLlmInputs(table=TableRef(uri=news.uri, version=1)),
            replace(step_context, log=said.append),
        )
    print("\n".join(said))
    path = step_context.run.client.download_artifacts(step_context.run.run_id, "labels.json")
    report: dict[str, Any] = json.loads(Path(path).read_text())
    assert (report["bill"]["answers"], report["bill"]["lost"]) == (rows + 4, 0)  # 4 gold rows in two orders
    found = read_arrow(outputs.table).to_pylist()
    for name, signal in signals.items():
        one = report["signals"][name]
        assert one["failed"] == {}
        assert one["rows_gold"] + one["rows_by_llm"] + sum(one["abstained"].values()) == rows
        assert {row[f"{name}_answer"] for row in found} <= {*signal["labels"], None}


def test_typed_decisions_of_transformers_own_server(
    tmp_path: Path,
    news: TableRef,
    make_decoder: Callable[..., Path],
    label: Callable[..., LabelByLlmOutputs],
    step_context: StepContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = " ".join(read_arrow(news).column("body").to_pylist()).split()
    folder = make_decoder(
        tmp_path / "model", [*"ABC.:", *words, "sport", "trade"], max_position_embeddings=256
    )
    asked = {"gold": "gold", "asking": {"model": str(folder), "dialect": "systemone", "concurrency": 2}}
    said: list[str] = []
    with LocalTransformers(tmp_path / "transformers", folder) as server:
        monkeypatch.setenv("MODELMILL_LLM_URL", f"{server.url}/v1")
        outputs = label(news, replace(step_context, log=said.append), **asked)
    path = step_context.run.client.download_artifacts(step_context.run.run_id, "labels.json")
    report: dict[str, Any] = json.loads(Path(path).read_text())
    assert report["failed"] == {}  # each of 80 requests has an answer that is one of the options
    assert report["bill"]["answers"] == report["bill"]["requests"] == 80
    assert report["bill"]["lost"] == report["bill"]["without_usage"] == 0
    assert report["rows_gold"] + report["rows_by_llm"] + sum(report["abstained"].values()) == 60
    assert any("the order of the labels changes" in line for line in said)
    answers = DeltaTable(str(step_context.settings.home / "language_models/answers")).to_pyarrow_table()
    for found in answers.column("probabilities").to_pylist():
        given = json.loads(found) if isinstance(found, str) else dict(found)
        assert set(given) == {"sport", "trade", "cannot tell"}
        assert sum(given.values()) == pytest.approx(1)
    assert len(read_arrow(outputs.table)) == 60
