"""Templates: each makes a pipeline that is valid as it is, and one click ends with a champion."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from demo.servers.language_model import Behaviour, LanguageModelStub

from modelmill.pipeline.expansion import expand
from modelmill.pipeline.local_run import request_for
from modelmill.pipeline.runner import run_step
from modelmill.pipeline.templates import TEMPLATES, template_named
from modelmill.pipeline.validation import parse_pipeline
from modelmill.registry.promotion import champion
from modelmill.registry.tracking import tracking_client
from modelmill.settings import Settings

VALUES = {
    "name": "tickets",
    "table": "${data}/tickets",
    "text": "message",
    "label": "desk",
    "labels": ["sport", "politics"],
    "gold": "desk_by_hand",
    "llm": "teacher-2026-11-01",
    "llm_connection": "teacher",
    "rule_set": "/rules/desks.yaml",
    "model": "desks",
}


WORDS = {
    "sport": ("goal", "match", "team", "score", "league", "coach"),
    "trade": ("bank", "share", "price", "profit", "market", "loan"),
}


def built(name: str, **changes: Any) -> str:
    template = template_named(name)
    values = {key: value for key, value in VALUES.items() if key in template.form.model_fields}
    if name == "language_model":
        values["labels"] = {"sport": "games", "politics": ""}
    return json.dumps(template.build(template.form.model_validate({**values, **changes})))


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_makes_a_valid_pipeline(name: str) -> None:
    assert parse_pipeline(built(name)).pipeline == "tickets"


def test_a_language_model_can_be_asked_in_batches_and_about_some_rows() -> None:
    asked = json.loads(built("language_model", batch=True, rows=1_200, max_drop=0.02))["steps"]
    parse_pipeline(built("language_model", batch=True, rows=1_200))
    assert asked["labelled"]["config"]["asking"]["batch"] == {}
    assert asked["labelled"]["config"]["select"] == {"rows": 1_200}
    (beside,) = asked["verdict"]["config"]["checks"]
    assert (beside["column"], beside["source"], beside["max_drop"]) == ("desk_answer", "desk_source", 0.02)
    plain = json.loads(built("language_model"))["steps"]["labelled"]["config"]
    assert (plain["asking"], plain.get("select")) == ({"model": "teacher-2026-11-01"}, None)


@pytest.mark.parametrize("name", ["one_click", "language_model"])
def test_one_click_from_a_table_to_a_champion(
    name: str,
    settings: Settings,
    tmp_path: Path,
    tiny_base_model: Path,
    topic_rows: Callable[..., list[tuple[str, str]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = topic_rows(160)
    columns: dict[str, Any] = {
        "ticket": [f"T{number}" for number in range(len(rows))],
        "message": [f"{text} {number}" for number, (text, _) in enumerate(rows)],
    }
    changes: dict[str, Any] = {"base_model": str(tiny_base_model)}
    if name == "one_click":
        columns["desk"] = [topic for _, topic in rows]
    else:
        # Half of the rows have a label by hand, and are tested with; a language model labels the others.
        columns["desk_by_hand"] = [topic if n % 4 < 2 else None for n, (_, topic) in enumerate(rows)]
        columns["part"] = [("test", "test", "train", "train")[n % 4] for n in range(len(rows))]
        changes |= {"split": "part", "labels": {"sport": "games", "trade": "markets"}, "precision": 0.8}
    write_deltalake(str(tmp_path / "tickets"), pa.table(columns))
    spec = parse_pipeline(built(name, **changes))
    values = spec.param_values({"data": str(tmp_path)})
    outputs: dict[str, Any] = {}
    expansion = expand(spec)
    with LanguageModelStub(Behaviour(words=WORDS)) as stub:
        monkeypatch.setenv("MODELMILL_LLM_URL", stub.url)
        for step in spec.order():  # in this process: the libraries are loaded once
            outputs[step] = run_step(request_for(expansion, step, values, outputs), settings).outputs
        assert stub.bill.billed >= (160 if name == "language_model" else 0)
    pruned, exported = outputs["pruned"]["model"], outputs["exported"]["model"]
    assert (pruned.role, exported.parent) == ("pruned", pruned.uri)
    found = champion("desks", tracking_client(settings.tracking_uri))
    assert found is not None
    assert found.digest == exported.digest
    if name == "language_model":  # it is compared with what has taught it, on the rows with a label by hand
        lines = outputs["verdict"]["verdict"].summary.splitlines()
        assert any("desk_answer" in line and ": passed" in line for line in lines)


def test_each_signal_from_a_table_to_a_verdict_on_each_head(
    settings: Settings,
    tmp_path: Path,
    tiny_base_model: Path,
    topic_rows: Callable[..., list[tuple[str, str]]],
) -> None:
    rows = topic_rows(160)
    table = pa.table(
        {
            "message": [f"{text} {number}" for number, (text, _) in enumerate(rows)],
            "sport": ["yes" if topic == "sport" else "no" for _, topic in rows],
            "trade": ["no" if topic == "sport" else "yes" for _, topic in rows],
        }
    )
    write_deltalake(str(tmp_path / "tickets"), table)
    document = json.loads(built("each_signal", labels=["sport", "trade"], base_model=str(tiny_base_model)))
    document["steps"]["trunk"]["config"]["max_tokens"] = 64  # what the tiny model can read
    spec = parse_pipeline(json.dumps(document))
    values = spec.param_values({"data": str(tmp_path)})
    outputs: dict[str, Any] = {}
    expansion = expand(spec)
    for step in expansion.spec.order():
        if not step.startswith("champion"):  # a head on so small a trunk may be refused
            outputs[step] = run_step(request_for(expansion, step, values, outputs), settings).outputs
    verdicts = {label: outputs[f"verdict__{label}"]["verdict"] for label in ("sport", "trade")}
    assert {label: verdict.name for label, verdict in verdicts.items()} == {
        "sport": "tickets_sport",
        "trade": "tickets_trade",
    }
