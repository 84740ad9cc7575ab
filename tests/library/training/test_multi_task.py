"""One encoder that learns many signals: what a row teaches, what few labels gain, what a kill changes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from deltalake import write_deltalake

from modelmill.artifacts import DatasetRef
from modelmill.component import StepContext
from modelmill.errors import ConfigError, InputError
from modelmill.models.base_model import load_base_model
from modelmill.models.classifier import collate, mean_over_tokens
from modelmill.registry.bundles import fetch_bundle
from modelmill.registry.lineage import taught_by
from modelmill.steps import teach_trunk, train_heads, trunk
from modelmill.steps.teach_trunk import TeachTrunkConfig, TeachTrunkInputs
from modelmill.tasks.examples import labelled_lists
from modelmill.tokens.texts import TextList
from modelmill.training.multi_task import TaughtTexts, signal_shares, teach_encoder
from modelmill.training.multi_task import _gathered as gathered
from modelmill.training.multi_task import _masked_loss as masked_loss
from modelmill.training.options import TeachingOptions

Rows = Callable[..., list[tuple[str, str]]]
FAST = {"max_tokens": 16, "epochs": 6, "learning_rate": 3e-3, "head_learning_rate": 1e-2}


def dataset(place: Path, rows: list[dict[str, Any]], *labels: str) -> DatasetRef:
    write_deltalake(str(place), pa.Table.from_pylist(rows))
    return DatasetRef(uri=str(place), version=0, key="id", text="body", labels=labels, split="split")


def desks(rows: list[tuple[str, str]], *, labelled: int = 10**6) -> list[dict[str, Any]]:
    """Rows with two labels: the desk, and a number; of the latter only some rows have one."""
    return [
        {
            "id": f"{number:04d}",
            "body": text,
            "desk": {"sport": "stadium", "trade": "exchange"}[topic],
            "length": float(len(text.split())) if number < labelled else None,
            "split": "validation" if number % 5 == 4 else "train",
        }
        for number, (text, topic) in enumerate(rows)
    ]


def test_a_row_trains_the_signals_that_it_has_a_label_for(tiny_base_model: Path) -> None:
    texts = ["goal match", "bank loan", "goal team", "price share"]
    first = labelled_lists(["sport", "trade", None, None], [], label="topic")
    second = labelled_lists([None, 3.0, 5.0, None], [], label="length")
    other = labelled_lists([["a"], ["a", "b"], None, ["b"]], [], label="tags")
    sources = [
        TaughtTexts("one", TextList(texts), [first, second]),
        TaughtTexts("two", TextList(texts), [other]),
    ]
    options = TeachingOptions(base_model=str(tiny_base_model), max_tokens=16)
    rows, signals = gathered(sources, tiny_base_model, options, split="train")
    assert len(rows.tokens) == 6  # three of each: a row without any label is not read
    assert [signal.rows.tolist() for signal in signals] == [[0, 1], [1, 2], [3, 4, 5]]
    assert [signal.outputs for signal in signals] == [slice(0, 2), slice(2, 3), slice(3, 5)]
    assert signals[1].targets.tolist() == [-1, 1]  # in units of their spread
    shares = signal_shares([2, 2, 3], power=0)
    loss = masked_loss(signals, shares, rows=6)
    logits = torch.randn(6, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    loss(logits, torch.zeros(6), np.arange(6)).backward()
    assert logits.grad is not None
    taught = torch.zeros(6, 5, dtype=torch.bool)
    for signal in signals:
        taught[torch.from_numpy(signal.rows), signal.outputs] = True
    assert torch.equal(logits.grad != 0, taught)
    # Each signal's part is its share of the mean over its own labels, also where a batch comes in parts.
    logits = logits.detach()
    parts = [loss(logits[[row]], torch.zeros(1), np.array([row])) for row in range(6)]
    means = [
        signal.task.loss(logits[signal.rows][:, signal.outputs], torch.from_numpy(signal.targets).to(kind))
        for signal, kind in zip(signals, (torch.int64, torch.float32, torch.float32), strict=True)
    ]
    assert float(torch.stack(parts).mean()) == pytest.approx(float(torch.stack(means).mean()), rel=1e-5)


def test_shares_are_smoothed() -> None:
    assert signal_shares([900, 100], power=1).tolist() == [0.9, 0.1]
    assert signal_shares([900, 100], power=0.5).tolist() == [0.75, 0.25]
    assert signal_shares([900, 100], power=0).tolist() == [0.5, 0.5]


def test_a_signal_with_few_labels_gains_from_others(
    tmp_path: Path, tiny_base_model: Path, topic_rows: Rows, step_context: StepContext
) -> None:
    """12 rows show some of the words that tell; the others' labels say what all of them mean."""
    many = labelled_lists([topic for _, topic in topic_rows(400, seed=1)], [], label="topic")
    texts = [text for text, _ in topic_rows(400, seed=1)]
    few, test = topic_rows(12, seed=2), topic_rows(200, seed=3)
    tone = {"sport": "loud", "trade": "quiet"}
    small = labelled_lists([tone[topic] for _, topic in few], [], label="tone")
    twice = dataclasses.replace(small, label="mood")
    few_texts = TextList([text for text, _ in few])
    options = TeachingOptions.model_validate({**FAST, "base_model": str(tiny_base_model)})

    def accuracy(folder: Path) -> float:
        """Of the nearest mean of the 12 rows' features."""
        encoder = load_base_model(str(folder), max_tokens=16, dropout=0).encoder.eval()
        features = []
        for rows in (few, test):
            ids, mask = collate(
                TextList([text for text, _ in rows]).tokens(folder, max_tokens=16), np.arange(len(rows))
            )
            with torch.inference_mode():
                features.append(mean_over_tokens(encoder(input_ids=ids, attention_mask=mask)[0], mask))
        labels = np.array([topic == "sport" for _, topic in few])
        means = torch.stack([features[0][labels].mean(0), features[0][~labels].mean(0)])
        nearest = torch.cdist(features[1], means).argmin(1) == 0
        return float(np.mean(nearest.numpy() == np.array([topic == "sport" for _, topic in test])))

    found = {}
    for name, sources in {
        "alone": [TaughtTexts("few", few_texts, [small, twice])],
        "together": [TaughtTexts("many", TextList(texts), [many]), TaughtTexts("few", few_texts, [small])],
    }.items():
        workdir = tmp_path / name
        workdir.mkdir()
        context = dataclasses.replace(step_context, workdir=workdir)
        made = teach_encoder(sources, options, context, learned_before=np.zeros(0, np.uint64))
        found[name] = accuracy(made.folder)
    print(accuracy(tiny_base_model), found)
    assert found["together"] > 0.95 > found["alone"] + 0.05


def test_the_step_makes_a_trunk_for_heads(
    tmp_path: Path,
    tiny_base_model: Path,
    topic_rows: Rows,
    topic_dataset: DatasetRef,
    step_context: StepContext,
) -> None:
    said: list[str] = []

    def part(name: str) -> StepContext:
        (step_context.workdir / name).mkdir()
        return dataclasses.replace(step_context, workdir=step_context.workdir / name, log=said.append)

    other = dataset(tmp_path / "desks", desks(topic_rows(100, seed=4), labelled=30), "desk", "length")
    config = TeachTrunkConfig.model_validate(
        {**FAST, "base_model": str(tiny_base_model), "registered_name": "stem"}
    )
    made = teach_trunk.run(config, TeachTrunkInputs(datasets=(topic_dataset, other)), part("teach")).model
    assert made.format == "encoder"
    assert any("3 signals, 164 labels of 140 rows" in one for one in said)
    assert any(one.startswith("dataset 2: length: ") and "24 labels" in one for one in said)
    assert "it is version 1 of stem" in said
    metrics = step_context.run.client.get_logged_model(made.uri.split("/")[1]).metrics or []
    quality = {metric.key: metric.value for metric in metrics}
    assert quality["validation_mean_quality"] > quality["validation_worst_quality"]
    stem = trunk.run(trunk.TrunkConfig(method="none"), trunk.TrunkInputs(model=made), part("trunk")).trunk
    assert {one.dataset for one in taught_by(stem.uri, step_context.run.client)} == {topic_dataset, other}
    heads = train_heads.run(
        train_heads.TrainHeadsConfig(), train_heads.TrainHeadsInputs(dataset=other, trunk=stem), part("heads")
    )
    assert heads.signals.uri
    # It goes on from what it was, too.
    again = TeachTrunkConfig.model_validate({**FAST, "epochs": 1, "labels": ("desk", "topic")})
    inputs = TeachTrunkInputs(datasets=(topic_dataset, other), model=made)
    assert teach_trunk.run(again, inputs, part("again")).model.digest != made.digest
    with pytest.raises(
        ConfigError, match=r"labels are label columns of the datasets; got 'tone'; .* desk, length, topic"
    ):
        teach_trunk.run(again.model_copy(update={"labels": ("tone",)}), inputs, part("unknown"))
    with pytest.raises(ConfigError, match="learns two at least; got 'topic'"):
        teach_trunk.run(again.model_copy(update={"labels": ("topic",)}), inputs, part("one"))
    assert fetch_bundle(made, step_context.cache).is_dir()


def test_an_image_encoder_is_refused_before_anything_runs(image_encoder: Path) -> None:
    with pytest.raises(InputError, match="trains an encoder of texts, and the base model reads images"):
        teach_trunk.check(TeachTrunkConfig(base_model=str(image_encoder)))


_CODE = """
from modelmill.artifacts import DatasetRef
from modelmill.steps import teach_trunk
from modelmill.steps.teach_trunk import TeachTrunkConfig, TeachTrunkInputs

config = TeachTrunkConfig.model_validate({config!r})
datasets = tuple(DatasetRef.model_validate(one) for one in {datasets!r})
made = teach_trunk.run(config, TeachTrunkInputs(datasets=datasets), context).model
print("digest", made.digest)
"""


def test_a_killed_training_ends_in_the_same_bits(
    tmp_path: Path,
    tiny_base_model: Path,
    topic_rows: Rows,
    topic_dataset: DatasetRef,
    step_process: Callable[[Path, str], Popen[str]],
) -> None:
    other = dataset(tmp_path / "desks", desks(topic_rows(100, seed=4), labelled=30), "desk", "length")
    config = {
        **FAST,
        "base_model": str(tiny_base_model),
        "dropout": 0.1,
        "checkpoint_seconds": 1e-6,
        "epochs": 2,
    }
    code = _CODE.format(config=config, datasets=[topic_dataset.model_dump(), other.model_dump()])
    digests = []
    for name, kills in (("whole", ()), ("killed", (9,))):
        workdir = tmp_path / name
        workdir.mkdir()
        for step in (*kills, None):
            with step_process(workdir, code) as process:
                assert process.stdout is not None
                for line in process.stdout:
                    if line == f"step {step}\n":
                        process.kill()
                    if line.startswith("digest"):
                        digests.append(line.split()[1])
    assert len(digests) == 2
    assert digests[0] == digests[1]
