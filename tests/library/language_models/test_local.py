"""The step with a language model in its own process: no endpoint, the same promises."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from deltalake import write_deltalake
from pydantic import ValidationError
from transformers import AutoModelForCausalLM

from modelmill.artifacts import TableRef
from modelmill.component import StepContext
from modelmill.errors import ConfigError, ModelError
from modelmill.language_models.dialects import Parameters, canonical
from modelmill.language_models.local import LocalDialect, local_prompt
from modelmill.language_models.local_model import LocalPlace
from modelmill.language_models.options import Asking
from modelmill.language_models.questions import Question
from modelmill.models.causal_language_model import load_causal_language_model
from modelmill.steps.label_by_llm import LabelByLlmConfig, LabelByLlmInputs, LabelByLlmOutputs, check
from modelmill.steps.label_by_llm import run as run_step
from modelmill.tables.reading import read_arrow

Label = Callable[..., LabelByLlmOutputs]
LABELS = {"sport": "games and clubs", "trade": "banks and markets"}
QUESTION = Question("topic", tuple(LABELS.items()))


@pytest.fixture(scope="module")
def teacher(
    tmp_path_factory: pytest.TempPathFactory,
    make_decoder: Callable[..., Path],
    topic_rows: Callable[..., list[tuple[str, str]]],
) -> Path:
    """A tiny language model that has learned to answer this one question, in both orders, about such rows."""
    rows = topic_rows(400, seed=1)
    asked = [
        json.loads(LocalDialect().request(question, "", Parameters("any")).body)["questions"]["topic"]
        for question in (QUESTION, QUESTION.ordered(1, of=2))
    ]
    prompts = [local_prompt(one, scoring="options") for one in asked]
    texts = " ".join([text for text, _ in rows] + [one.question + one.ending for one in prompts])
    words = [*dict.fromkeys(texts.replace(".", " . ").replace(":", " : ").split()), *"-?,", "N", "A", "/"]
    folder = make_decoder(tmp_path_factory.mktemp("teacher") / "model", words)
    reader = load_causal_language_model(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    torch.manual_seed(0)
    for step in range(100):
        prompt, batch = prompts[step % 2], rows[(step * 8) % 400 :][:8]
        ids = [[1, 2, *reader.tokens(prompt.question + text + prompt.ending), 4, 3] for text, _ in batch]
        padded = torch.tensor([[*one, *[0] * (128 - len(one))] for one in ids])
        logits = model(padded).logits[range(len(ids)), [len(one) - 1 for one in ids]]
        answers = torch.tensor([reader.tokens(topic)[0] for _, topic in batch])
        loss = torch.nn.functional.cross_entropy(logits, answers)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
    return folder


def asking(folder: Path, **local: Any) -> dict[str, Any]:
    return {"model": "tiny-2026-11-29", "dialect": "local", "local": {"folder": str(folder), **local}}


def report(context: StepContext) -> dict[str, Any]:
    path = context.run.client.download_artifacts(context.run.run_id, "labels.json")
    found: dict[str, Any] = json.loads(Path(path).read_text())
    return found


def test_rows_are_labelled_without_an_endpoint(
    tmp_path: Path,
    teacher: Path,
    news: TableRef,
    label: Label,
    step_context: StepContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("MODELMILL_LLM_URL", raising=False)
    said: list[str] = []
    asked = {"gold": "gold", "asking": asking(teacher), "abstain": False}
    outputs = label(news, replace(step_context, log=said.append), **asked)
    found = report(step_context)
    assert found["rows"] == 60 == found["rows_gold"] + found["rows_by_llm"]
    assert found["gold"]["right"] >= 18  # of 20
    assert any("the order of the labels changes" in line for line in said)
    bill = found["bill"]
    assert (bill["lost"], bill["reserved_for_dead"], bill["without_usage"]) == (0, 0, 0)
    assert 80 * 40 < bill["accounted"] < 80 * 128  # 20 gold rows in two orders, and 40 others
    # Another night: all answers are there. Other weights are another model.
    night = replace(step_context, step_key="1" * 64, workdir=tmp_path / "second")
    again = label(news, night, **asked)
    assert report(night)["bill"]["answers"] == 0
    assert read_arrow(again.table) == read_arrow(outputs.table)
    other = tmp_path / "other"
    model = AutoModelForCausalLM.from_pretrained(teacher)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (other / name).parent.mkdir(exist_ok=True)
        (other / name).write_bytes((teacher / name).read_bytes())
    with torch.no_grad():
        model.lm_head.weight.add_(0.01)
    model.save_pretrained(other)
    third = replace(night, step_key="2" * 64, workdir=tmp_path / "third")
    label(news, third, **asked | {"asking": asking(other)})
    assert report(third)["bill"]["answers"] == 80


def test_several_signals_are_asked_one_at_a_time(
    tmp_path: Path, teacher: Path, news: TableRef, label: Label, step_context: StepContext
) -> None:
    topic, night = {"labels": LABELS, "gold": "gold"}, replace(step_context, step_key="1" * 64)
    asked = {"asking": asking(teacher), "abstain": False}
    alone = read_arrow(label(news, **topic, **asked).table).to_pylist()
    signals = {"topic": topic, "other": {"labels": {"the": "", "goal": "", "bank": ""}}}
    config = {"columns": ["body"], "budget": {"tokens": 10_000_000}, "pilot_rows": 10, "signals": signals}
    found = run_step(
        LabelByLlmConfig.model_validate({**config, **asked}),
        LabelByLlmInputs(table=news),
        replace(night, workdir=tmp_path / "second"),
    )
    both = read_arrow(found.table).to_pylist()
    assert [{name: row[name] for name in alone[0]} for row in both] == alone
    bill = report(night)["bill"]
    assert (bill["from_table"], bill["answers"], bill["requests"]) == (80, 60, 140)
    assert {row["other"] for row in both} <= {"the", "goal", "bank", None}
    assert report(night)["signals"]["other"]["failed"] == {}


def test_the_budget_and_the_models_length_hold(
    tmp_path: Path, teacher: Path, news: TableRef, label: Label, step_context: StepContext
) -> None:
    long = [{"id": 60, "body": "goal " * 200, "gold": None, "secret": ""}]
    write_deltalake(news.uri, pa.Table.from_pylist(long, read_arrow(news).schema), mode="append")
    table = TableRef(uri=news.uri, version=1)
    asked = {"asking": asking(teacher, scoring="options"), "over_budget": "spend"}
    label(table, **asked)
    whole = report(step_context)
    assert whole["failed"] == {"refused": 1}
    assert whole["rows_by_llm"] + sum(whole["abstained"].values()) == 60
    night = replace(step_context, step_key="1" * 64, workdir=tmp_path / "second")
    label(table, night, **asked, budget={"tokens": 3_000}, instructions="By desk.")
    found = report(night)
    assert found["failed"]["budget"] > 0
    assert found["bill"]["accounted"] <= 3_000
    assert found["rows_by_llm"] + sum(found["abstained"].values()) + sum(found["failed"].values()) == 61


@pytest.mark.parametrize("scoring", ["options", "letters"])
def test_an_answer_follows_from_its_request_alone(
    tmp_path: Path, make_decoder: Callable[..., Path], scoring: str
) -> None:
    folder = make_decoder(tmp_path / "model", [*"ABC", "sport", "trade", "cannot", "tell", "goal", "N", "/"])
    parameters = Parameters("tiny", body={"scoring": scoring, "calibrated": True})
    dialect, asked = LocalDialect(), [QUESTION, QUESTION.ordered(1, of=2)]
    requests = [dialect.request(one, text, parameters) for one in asked for text in ("goal A", "B", "N/A")]
    with LocalPlace(folder).client(Asking.model_validate(asking(folder))) as sender:
        first = [sender.send(request).body for request in requests]
        assert [sender.send(request).body for request in reversed(requests)] == first[::-1]
    replies = [dialect.reply(QUESTION, body) for body in first]
    for request, reply in zip(requests, replies, strict=True):
        assert reply.status == "answered"
        assert reply.probabilities is not None
        assert sum(reply.probabilities.values()) == pytest.approx(1)
        assert reply.usage is not None
        assert reply.usage.total <= dialect.worst_case(request, parameters).total
    # A row without content, of three that are averaged, is near to no preference.
    assert replies[2].probabilities is not None
    assert all(abs(value - 1 / 3) < 0.1 for value in replies[2].probabilities.values())


def test_what_cannot_be_asked_is_refused(tmp_path: Path, make_decoder: Callable[..., Path]) -> None:
    with pytest.raises(ValidationError, match="give both, or neither"):
        Asking.model_validate({"model": "any", "dialect": "local"})
    many = Question("topic", tuple((f"label {number}", "") for number in range(26)))
    with pytest.raises(ConfigError, match="at most 26 options"):
        LocalDialect().request(many, "", Parameters("any", body={"scoring": "letters"}))
    folder = make_decoder(tmp_path / "model", ["sport"])  # the others are all unknown words
    request = LocalDialect().request(
        QUESTION, "goal", Parameters("tiny", body={"scoring": "letters", "calibrated": False})
    )
    local = Asking.model_validate(asking(folder))
    with (
        LocalPlace(folder).client(local) as sender,
        pytest.raises(ConfigError, match="tell the answers apart"),
    ):
        sender.send(request)
    base = {"labels": LABELS, "columns": ["body"], "budget": {"tokens": 10}}
    config = LabelByLlmConfig.model_validate({**base, "asking": asking(folder)})
    check(config)
    (folder / "config.json").write_text(canonical({"model_type": "bert"}).decode())
    with pytest.raises(ModelError, match="known architecture"):
        check(config)
    check(LabelByLlmConfig.model_validate({**base, "asking": asking(tmp_path / "later")}))  # not here yet
