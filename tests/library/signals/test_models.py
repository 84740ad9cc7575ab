"""Models as signals: pinned, read once, abstaining, and missing."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from safetensors.numpy import save_file

from modelmill.component import StepContext
from modelmill.compression.static import fit_static_signals
from modelmill.errors import ModelError, SignalError
from modelmill.models.bundle import BundleInfo
from modelmill.models.scorers import load_scorer
from modelmill.models.static import write_static
from modelmill.registry.bundles import fetch_bundle
from modelmill.rules.engine import Engine
from modelmill.rules.rule_set import RuleSet
from modelmill.settings import Settings
from modelmill.signals.groups import Rows, SignalContext, SignalGroup
from modelmill.signals.joint_models import JointModels
from modelmill.signals.model_cascade import sure_values
from modelmill.signals.model_config import Doubt, FirstTier
from modelmill.signals.pinned_models import pin_models
from modelmill.signals.registry import build_groups
from modelmill.steps import trunk
from modelmill.steps.trunk import TrunkConfig, TrunkInputs
from modelmill.tokens.tokenizer import encode, load_tokenizer

TEXTS = ["goal match", "bank", None, "  ", "Goal  MATCH", "goal bank", "bank"]
BATCH = pa.RecordBatch.from_pydict({"id": list(range(len(TEXTS))), "text": TEXTS})
ALL = np.arange(len(TEXTS))


def rule_set(signals: Mapping[str, Any], **changes: Any) -> RuleSet:
    rules = [{"name": "one", "when": f"{next(iter(signals))} IS NOT NULL", "then": "known"}]
    content = {"rule_set": "r", "key": "id", "signals": signals, "rules": rules, "default": "unknown"}
    return RuleSet.model_validate({**content, **changes})


def model(folder: Path | str, **changes: Any) -> dict[str, Any]:
    plain = {"kind": "model", "column": "text", "model": str(folder), "label": "trade"}
    return {name: value for name, value in (plain | changes).items() if value is not None}


def groups(signals: Mapping[str, Any], tmp_path: Path) -> list[SignalGroup]:
    made = rule_set(signals)
    settings = replace(Settings.from_environment(), home=tmp_path)
    return build_groups(made.signals, SignalContext(BATCH.schema, settings))


def values(group: SignalGroup, name: str, rows: Rows = ALL) -> list[Any]:
    return group.begin(BATCH).compute([name], rows)[name].values.to_pylist()


def test_two_signals_of_a_model_are_one_pass(make_bundle: Callable[..., Path], tmp_path: Path) -> None:
    bundle = make_bundle("a")
    signals = {"trade": model(bundle), "topic": model(bundle, label=None, output="label")}
    (group,) = groups(signals, tmp_path)
    expected = load_scorer(bundle).probabilities(["goal match", "bank", "goal bank"])[:, 1].tolist()
    assert values(group, "trade") == [
        expected[0],
        expected[1],
        None,
        None,
        expected[0],
        expected[2],
        expected[1],
    ]
    assert values(group, "topic") == ["sport", "trade", None, None, "sport", "sport", "trade"]
    assert group.models.rows_read == 3  # type: ignore[attr-defined]
    assert {info.kind for info in group.signals.values()} == {"float", "text"}


def test_equal_inputs_are_read_once_and_remembered(make_bundle: Callable[..., Path], tmp_path: Path) -> None:
    (group,) = groups({"trade": model(make_bundle("b"))}, tmp_path)
    values(group, "trade", np.array([0, 1]))
    values(group, "trade")
    assert group.models.rows_read == 3  # type: ignore[attr-defined]


def test_a_row_gives_the_same_alone_and_in_any_batch(
    make_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    (group,) = groups({"trade": model(make_bundle("c"))}, tmp_path)
    whole = values(group, "trade")
    assert whole == [values(group, "trade", np.array([row]))[0] for row in ALL]


def test_a_model_abstains_within_its_band(make_bundle: Callable[..., Path], tmp_path: Path) -> None:
    bundle = make_bundle("d")
    band = {"low": 0.4, "high": 0.6}
    signals = {
        "trade": model(bundle, abstain=band),
        "topic": model(bundle, label=None, output="label", abstain=band),
        "flat": model(bundle, calibration={"temperature": 1000.0}, abstain=band),
    }
    (group,) = groups(signals, tmp_path)
    evaluation = group.begin(BATCH)
    found = evaluation.compute(list(signals), ALL)
    known = [index for index, value in enumerate(found["trade"].values.to_pylist()) if value is not None]
    assert known == [0, 1, 4, 6]
    assert found["topic"].values.to_pylist() == ["sport", "trade", None, None, "sport", None, "trade"]
    assert found["flat"].values.null_count == len(TEXTS)
    said = evaluation.evidence(["trade"], ALL)["trade"].to_pylist()
    assert [len(one) for one in said] == [0, 0, 0, 0, 0, 1, 0]
    assert said[5][0]["text"] == "abstains: probability 0.5000 is in the band from 0.4 to 0.6"


def test_heads_share_a_pass_of_their_trunk(
    tiny_base_model: Path, step_context: StepContext, tmp_path: Path
) -> None:
    config = TrunkConfig(base_model=str(tiny_base_model), max_tokens=16)
    stem = trunk.run(config, TrunkInputs(model=None), step_context).trunk
    place = fetch_bundle(stem, step_context.cache)
    random, features = np.random.default_rng(0), BundleInfo.load(place).features
    signals = {}
    for number in range(3):
        folder = place.parent / f"head{number}"
        folder.mkdir()
        weights = {"weight": random.normal(size=(2, features)), "bias": random.normal(size=2)}
        save_file(
            {name: one.astype(np.float32) for name, one in weights.items()}, folder / "head.safetensors"
        )
        BundleInfo(
            format="head",
            label="topic",
            classes=("sport", "trade"),
            text="text",
            max_tokens=16,
            parameters=10,
            features=features,
            head="linear",
            trunk=stem.digest,
        ).save(folder)
        signals[f"s{number}"] = model(folder)
    (group,) = groups(signals, tmp_path)
    assert group.name == f"trunk {stem.digest[:12]} on text"
    evaluation = group.begin(BATCH)
    found = evaluation.compute(["s1"], ALL)
    later = evaluation.compute(["s0", "s2"], ALL)
    assert group.models.rows_read == 3  # type: ignore[attr-defined]
    for name, answers in {**found, **later}.items():
        alone = load_scorer(Path(signals[name]["model"])).probabilities(["goal bank"])[0, 1]
        assert answers.values[5].as_py() == pytest.approx(alone, abs=1e-7)


@pytest.mark.parametrize("name", ["models:/gone@champion", "models:/gone/3", "models:/m-gone", "/no/folder"])
def test_a_model_that_is_not_there_is_unknown_or_stops(name: str, settings: Settings) -> None:
    pins = pin_models([name], settings)
    assert name in pins[name].missing
    made = rule_set({"trade": model(name)})
    decided = Engine(made, BATCH.schema, settings=settings).decide(BATCH)
    assert decided.column("decision").to_pylist() == ["unknown"] * len(TEXTS)
    strict = rule_set({"trade": model(name)}, on_failure="stop")
    with pytest.raises(ModelError, match="the model of a signal must exist"):
        Engine(strict, BATCH.schema, settings=settings).decide(BATCH)


def test_what_a_rule_set_says_wrongly(make_bundle: Callable[..., Path], tmp_path: Path) -> None:
    bundle = make_bundle("f")
    with pytest.raises(SignalError, match="did you mean 'trade'"):
        groups({"bad": model(bundle, label="trad")}, tmp_path)
    with pytest.raises(SignalError, match="must be of kind text"):
        groups({"bad": model(bundle, column="id")}, tmp_path)


def test_joint_models_forget_the_oldest(
    make_bundle: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelmill.signals.joint_models._REMEMBERED", 1)
    models = JointModels({"x": make_bundle("g")})
    for text in ("goal", "bank", "bank", "goal"):
        models.logits([text])
    assert models.rows_read == 3


def test_the_cheap_model_answers_where_it_is_sure(make_bundle: Callable[..., Path], tmp_path: Path) -> None:
    full, cheap = make_bundle("full"), make_bundle("cheap", skill=0.5)
    first = {"model": str(cheap), "doubts": [{"threshold": 0.5, "low": 0.2, "high": 0.8}]}
    (group,) = groups({"trade": model(full, first=first)}, tmp_path)
    ((cheap_models, _),) = group.first_tier  # type: ignore[attr-defined]
    found = values(group, "trade")
    own, asked = (
        load_scorer(one).probabilities([text or "" for text in TEXTS])[:, 1] for one in (full, cheap)
    )
    sure = (asked < 0.2) | (asked >= 0.8)
    wanted = np.where(sure, asked, own)
    assert found == [None if row in (2, 3) else wanted[row] for row in ALL]
    texts = {text for row, text in enumerate(TEXTS) if row not in (2, 3) and not sure[row]}
    assert group.models.rows_read == len({text.lower().replace("  ", " ") for text in texts if text})  # type: ignore[attr-defined]
    assert cheap_models.rows_read == 3
    assert found == [values(group, "trade", np.array([row]))[0] for row in ALL]


def test_a_cheap_model_tells_a_side_of_every_threshold_or_nothing() -> None:
    doubts = [{"threshold": 0.5, "low": 0.1, "high": 0.3}, {"threshold": 0.9, "low": 0.2, "high": 0.95}]
    first = FirstTier.model_validate({"model": "cheap", "doubts": doubts})
    asked = np.array([0.05, 0.15, 0.25, 0.6, 0.97, np.nan])
    found = sure_values(first, asked)
    assert found[[0, 4]].tolist() == [0.05, 0.97]
    assert np.isnan(found[[1, 2, 3, 5]]).all()
    # Taken to be above 0.5, below 0.9: the nearest value there is.
    wide = first.model_copy(update={"doubts": (first.doubts[0], Doubt(threshold=0.9, low=0.7, high=0.95))})
    assert 0.5 < sure_values(wide, np.array([0.35]))[0] < 0.501
    never = first.model_copy(update={"doubts": (Doubt(threshold=0.5, low=0.4, high=1.0),)})
    assert np.isnan(sure_values(never, np.array([0.7, 1.0]))).all()
    with pytest.raises(ValueError, match="thresholds ascend"):
        FirstTier.model_validate({"model": "cheap", "doubts": doubts[::-1]})
    with pytest.raises(ValueError, match="low is not above high"):
        Doubt(threshold=0.5, low=0.6, high=0.4)


def test_a_row_is_settled_by_cheap_models_or_answered_by_the_models(
    make_bundle: Callable[..., Path], settings: Settings
) -> None:
    full, cheap = make_bundle("full"), make_bundle("cheap", skill=0.5)
    first = {"model": str(cheap), "doubts": [{"threshold": 0.5, "low": 0.2, "high": 0.8}]}
    rules = [
        {"name": "one", "when": "one > 0.5", "then": "take"},
        {"name": "two", "when": "two > 0.5", "then": "leave"},
    ]
    made = rule_set({"one": model(full, first=first), "two": model(full, label="sport")}, rules=rules)
    texts = ["bank", "bank share price", "goal", "goal match team", "bank goal", "bank share price goal"]
    # The cheap model does not know the last three words here, and is sure that the text is not of trade.
    texts = [*texts, "goal match profit market loan", None]
    batch = pa.RecordBatch.from_pydict({"id": list(range(len(texts))), "text": texts})
    engine = Engine(made, batch.schema, settings=settings)
    (group,) = engine.groups.values()
    group.models.forget()  # type: ignore[attr-defined]
    before = group.models.rows_read  # type: ignore[attr-defined]
    staged = engine.outcomes(batch)
    asked = load_scorer(cheap).probabilities([text or "" for text in texts])[:-1, 1]
    # Only a sure "one" settles a row: where it is surely not so, "two" is still needed, and no cheap model
    # stands before that.
    taken = asked >= 0.8
    assert taken.any()
    assert group.models.rows_read - before == (~taken).sum()  # type: ignore[attr-defined]
    assert (staged[:-1][taken] == 0).all()
    own = Engine(rule_set({"one": model(full), "two": model(full, label="sport")}, rules=rules), batch.schema)
    assert np.array_equal(staged[:-1][~taken], own.outcomes(batch)[:-1][~taken])
    assert np.array_equal(staged, engine.evaluate_fully(batch).outcomes)
    for row in range(len(texts)):
        alone = Engine(made, batch.schema, settings=settings)
        assert alone.outcomes(batch.slice(row, 1))[0] == staged[row]


def test_static_models_with_the_same_features_count_a_text_once(
    tiny_base_model: Path, tmp_path: Path, settings: Settings
) -> None:
    tokenizer = load_tokenizer(tiny_base_model, max_tokens=32)
    texts = ["goal match team", "bank share price", "goal bank", "team price share"]
    targets = np.array([[1, 0], [0, 1], [1, 0], [0, 1]], float)
    students = fit_static_signals(
        encode(tokenizer, texts), targets, vocabulary=tokenizer.get_vocab_size(), penalty=0.01
    )
    pins = {}
    for number, student in enumerate(students):
        folder = tmp_path / f"student{number}"
        folder.mkdir()
        shutil.copyfile(tiny_base_model / "tokenizer.json", folder / "tokenizer.json")
        write_static(
            folder,
            student.tables,
            student.bias,
            label="x",
            classes=("no", "yes"),
            text="body",
            max_tokens=32,
        )
        pins |= pin_models([str(folder)], settings)
    both = JointModels({pin.digest: pin.bundle() for pin in pins.values()})
    together = both.logits(texts)
    for number, pin in enumerate(pins.values()):
        alone = JointModels({pin.digest: pin.bundle()}).logits(texts)[pin.digest]
        assert np.array_equal(alone, together[pin.digest])
        assert (alone.argmax(axis=1) == targets[:, number]).all()
