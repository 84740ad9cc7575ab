"""A table of news with some labels by hand, and a stub of a language model that answers by words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from demo.servers.language_model import Behaviour, LanguageModelStub

from modelmill.artifacts import TableRef
from modelmill.component import StepContext
from modelmill.steps.label_by_llm import LabelByLlmConfig, LabelByLlmInputs, LabelByLlmOutputs
from modelmill.steps.label_by_llm import run as run_step

WORDS = {
    "sport": ("goal", "match", "team", "score", "league", "coach"),
    "trade": ("bank", "share", "price", "profit", "market", "loan"),
}

CONFIG: dict[str, Any] = {
    "labels": {"sport": "games and clubs", "trade": "banks and markets"},
    "columns": ["body"],
    "label": "topic",
    "asking": {"model": "stub-2026-11-01", "concurrency": 4},
    "budget": {"tokens": 10_000_000},
    "pilot_rows": 10,
}


@pytest.fixture
def news(tmp_path: Path, topic_rows: Callable[..., list[tuple[str, str]]]) -> TableRef:
    """60 rows, every third with a gold label; the secret column must never leave."""
    rows = [
        {"id": number, "body": text, "gold": topic if number % 3 == 0 else None, "secret": f"canary-{number}"}
        for number, (text, topic) in enumerate(topic_rows(60))
    ]
    write_deltalake(str(tmp_path / "news"), pa.Table.from_pylist(rows))
    return TableRef(uri=str(tmp_path / "news"), version=0)


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., LanguageModelStub]]:
    """Return a function that starts a stub, whose URL the step finds in its environment."""
    started: list[LanguageModelStub] = []

    def start(record: Any = None, **behaviour: Any) -> LanguageModelStub:
        stub = LanguageModelStub(Behaviour(**{"words": WORDS, **behaviour}), record=record)
        started.append(stub.__enter__())
        monkeypatch.setenv("MODELMILL_LLM_URL", stub.url)
        return stub

    yield start
    for one in started:
        one.__exit__(None, None, None)


@pytest.fixture
def label(step_context: StepContext) -> Callable[..., LabelByLlmOutputs]:
    """Return a function that runs the step, with changes to :data:`CONFIG`."""

    def run(table: TableRef, context: StepContext = step_context, **changes: Any) -> LabelByLlmOutputs:
        config = LabelByLlmConfig.model_validate({**CONFIG, **changes})
        return run_step(config, LabelByLlmInputs(table=table), context)

    return run
