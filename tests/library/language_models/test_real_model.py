"""The step against a real language model. It is tiny, so nobody asks how right it is; no row is lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from deltalake import write_deltalake
from demo.samples import prepare_language_model
from demo.servers import LocalLlama

from modelmill.artifacts import TableRef
from modelmill.component import StepContext
from modelmill.steps.label_by_llm import LabelByLlmOutputs
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
