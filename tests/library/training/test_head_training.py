"""Many signals on one trunk: trained together, answered together, each a model of its own."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from modelmill.artifacts import DatasetRef, ModelRef, SignalsRef
from modelmill.component import StepContext
from modelmill.errors import ConfigError, DatasetError
from modelmill.models.bundle import BundleInfo
from modelmill.models.onnx_session import RowSession
from modelmill.models.scorers import load_scorer
from modelmill.models.signal_scorer import SignalScorer
from modelmill.registry.bundles import fetch_bundle
from modelmill.registry.signal_models import read_signals, signal_named
from modelmill.steps import train_heads, trunk
from modelmill.steps.train_heads import TrainHeadsConfig, TrainHeadsInputs
from modelmill.steps.trunk import TrunkConfig, TrunkInputs
from modelmill.tables.reading import read_arrow
from modelmill.tokens.token_ids import Tokens
from modelmill.training import features

WORDS = ("goal", "match", "team", "score", "bank", "share", "price", "profit")


@pytest.fixture
def many_labels(tmp_path: Path, topic_rows: Callable[..., list[tuple[str, str]]]) -> DatasetRef:
    """Texts with a label for each of eight words (every third one missing), a set of classes, a number."""
    rows = [text for text, _ in topic_rows(240)]
    splits = ["train"] * 160 + ["validation"] * 40 + ["test"] * 40
    columns: dict[str, Any] = {"id": [f"{n:03d}" for n in range(240)], "body": rows, "split": splits}
    for shift, word in enumerate(WORDS):
        said = [("yes" if word in text.split() else "no") for text in rows]
        columns[word] = [None if (n + shift) % 3 == 0 else value for n, value in enumerate(said)]
    columns["topics"] = pa.array(
        [[name for name in ("goal", "bank") if name in text.split()] for text in rows], pa.list_(pa.string())
    )
    columns["length"] = pa.array([float(len(text.split())) for text in rows])
    uri = tmp_path / "tables" / "signals"
    write_deltalake(str(uri), pa.table(columns))
    labels = (*WORDS, "topics", "length")
    return DatasetRef(uri=str(uri), version=0, key="id", text="body", labels=labels, split="split")


def make_trunk(base: Path, context: StepContext, **changes: Any) -> ModelRef:
    config = TrunkConfig.model_validate({"base_model": str(base), "max_tokens": 16, **changes})
    return trunk.run(config, TrunkInputs(model=None), context).trunk


def trained(
    dataset: DatasetRef, model: ModelRef, context: StepContext, **changes: Any
) -> tuple[SignalsRef, list[str]]:
    lines: list[str] = []
    config = TrainHeadsConfig.model_validate(
        {"epochs": 30, "learning_rate": 1e-2, "batch_size": 128, **changes}
    )
    found = train_heads.run(
        config, TrainHeadsInputs(dataset=dataset, trunk=model), dataclasses.replace(context, log=lines.append)
    ).signals
    return found, lines


def test_signals_share_a_trunk_and_one_more_leaves_the_others_alone(
    tiny_base_model: Path, many_labels: DatasetRef, step_context: StepContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    stem = make_trunk(tiny_base_model, step_context, registered_name="stem")
    with monkeypatch.context() as patch:
        patch.setattr(features, "_FORECAST_ROWS", 100)
        first, lines = trained(many_labels, stem, step_context, labels=[*WORDS[1:], "topics", "length"])
    assert "9 signals: 9 to train, 0 known already" in lines
    assert any(re.fullmatch(r"that takes about [\d,]+ CPU s, by 32 of them", line) for line in lines)
    before = read_signals(first)
    assert (first.count, list(before)) == (9, [*WORDS[1:], "topics", "length"])

    read: list[int] = []
    run = RowSession.run

    def counted(self: RowSession, tokens: Tokens, *rest: Any) -> None:
        read.append(len(tokens))
        run(self, tokens, *rest)

    monkeypatch.setattr(RowSession, "run", counted)
    second, lines = trained(many_labels, stem, step_context)
    assert "10 signals: 1 to train, 9 known already" in lines
    assert read == []
    after = read_signals(second)
    assert {name: after[name] for name in before} == before
    client = step_context.run.client
    for name, model in after.items():
        versions = client.search_model_versions(f"name = '{name}'")
        assert [int(version.version) for version in versions] == [1]
        assert versions[0].tags["modelmill.trunk_digest"] == stem.digest
        assert (model.format, model.trunk) == ("head", stem.uri)
    assert len(client.search_model_versions("name = 'stem'")) == 1

    folders = {name: fetch_bundle(model, step_context.cache) for name, model in after.items()}
    assert all(not list(folder.glob("*.onnx")) for folder in folders.values())
    read.clear()
    scorer = SignalScorer(folders, threads=2)
    assert scorer.passes == (tuple(after),)
    texts = ["the goal of a match", "bank share", "", "said"]
    scores = scorer.scores(texts)
    assert read == [4]
    assert list(scores) == list(after)
    assert scores["goal"].shape == (4, 2)
    assert scores["length"].shape == (4, 1)
    for name, folder in folders.items():
        alone = load_scorer(folder, threads=1)
        for row, text in enumerate(texts):
            # Bits depend neither on the rows nor on the heads that go with it.
            assert np.array_equal(alone.probabilities([text])[0], scores[name][row]), name
    read.clear()
    assert list(scorer.scores(texts, ["bank"])) == ["bank"]
    with pytest.raises(ConfigError, match=r"got 'bnak'; did you mean 'bank'\?"):
        scorer.scores(texts, ["bnak"])


def test_heads_learn(tiny_base_model: Path, many_labels: DatasetRef, step_context: StepContext) -> None:
    stem = make_trunk(tiny_base_model, step_context, states=True)
    for head in ({"kind": "linear"}, {"kind": "mlp", "width": 16}, {"kind": "attention"}):
        found, _ = trained(many_labels, stem, step_context, head=head, epochs=60)
        scorer = SignalScorer(
            {name: fetch_bundle(model, step_context.cache) for name, model in read_signals(found).items()}
        )
        table = read_arrow(many_labels, columns=["body", *many_labels.labels])
        scores = scorer.scores(table.column("body").to_pylist())
        for name in WORDS:
            said = np.array([name in text.split() for text in table.column("body").to_pylist()])
            yes = scores[name][:, scorer.infos[name].classes.index("yes")]
            # The chance that a row with the word is above one without it.
            assert np.mean(yes[said][:, None] > yes[~said]) > 0.8, (head, name)
        topics = np.array([name in ("goal", "bank") for name in scorer.infos["topics"].classes])
        assert topics.all()
        truth = np.array(table.column("length").to_pylist())
        assert np.corrcoef(scores["length"][:, 0], truth)[0, 1] > 0.8, head


def test_a_head_is_a_pyfunc_without_its_trunk_in_it(
    tiny_base_model: Path,
    many_labels: DatasetRef,
    step_context: StepContext,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    stem = make_trunk(tiny_base_model, step_context)
    found, _ = trained(many_labels, stem, step_context, labels=["goal", "topics", "length"])
    model = mlflow.pyfunc.load_model(signal_named(found, "goal").uri)
    answers = model.predict(pd.DataFrame({"body": ["goal goal goal", None]}))
    assert answers["prediction"].tolist() == ["yes", None]
    assert 0.5 < answers["score"][0] <= 1
    sets = mlflow.pyfunc.load_model("models:/topics/1").predict(pd.DataFrame({"body": ["goal goal"]}))
    assert sets["prediction"][0] in (["goal"], ["bank", "goal"], [], ["bank"])
    number = mlflow.pyfunc.load_model("models:/length/1").predict(pd.DataFrame({"body": ["goal the"]}))
    assert isinstance(number["prediction"][0], float)
    assert number["prediction"][0] == number["score"][0]


def test_a_signal_without_labels_is_refused_before_anything_is_made(
    tiny_base_model: Path, many_labels: DatasetRef, step_context: StepContext
) -> None:
    from deltalake import DeltaTable

    table = DeltaTable(many_labels.uri).to_pyarrow_table()
    empty = table.append_column("empty", pa.nulls(240, pa.string())).append_column(
        "same", pa.array(["x"] * 240)
    )
    uri = f"{many_labels.uri}_bad"
    write_deltalake(uri, empty)
    bad = many_labels.model_copy(update={"uri": uri, "labels": ("goal", "empty", "same")})
    stem = make_trunk(tiny_base_model, step_context)
    with pytest.raises(DatasetError) as caught:
        trained(bad, stem, step_context)
    text = str(caught.value)
    assert "2 of 3 have not" in text
    assert "rows with a value in 'empty'" in text
    assert "label column 'same' must have at least two classes" in text
    assert step_context.run.client.search_registered_models() == []
    assert len(step_context.run.client.search_logged_models([step_context.run.experiment_id])) == 1


def test_attention_needs_token_states(
    tiny_base_model: Path, many_labels: DatasetRef, step_context: StepContext
) -> None:
    stem = make_trunk(tiny_base_model, step_context)
    with pytest.raises(ConfigError, match="set states: true in the trunk's step"):
        trained(many_labels, stem, step_context, head={"kind": "attention"})


def test_a_damaged_segment_is_made_again(
    tiny_base_model: Path, many_labels: DatasetRef, step_context: StepContext
) -> None:
    stem = make_trunk(tiny_base_model, step_context)
    first, _ = trained(many_labels, stem, step_context, labels=["goal"])
    (file,) = (step_context.cache / "features").glob("*/*/features.npy")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    second, lines = trained(many_labels, stem, step_context, labels=["goal"], seed=1)
    assert any("damaged" in line for line in lines)
    assert BundleInfo.load(fetch_bundle(signal_named(second, "goal"), step_context.cache)).label == "goal"
    assert first.digest != second.digest
