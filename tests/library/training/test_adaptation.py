"""Continued pretraining: what is read and learned, what it leaves, and a killed one ends as any other."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from modelmill.artifacts import DatasetRef, ModelRef, TableRef
from modelmill.component import StepContext
from modelmill.datasets.distinct_texts import TextSource, distinct_texts, text_key
from modelmill.errors import DatasetError, InputError, ModelError
from modelmill.models.bundle import BundleInfo
from modelmill.models.language_model import read_text_keys, read_vocabulary
from modelmill.models.scorers import load_scorer
from modelmill.registry.bundles import fetch_bundle
from modelmill.steps import adapt_trunk, fine_tune, train_heads, trunk
from modelmill.steps.adapt_trunk import AdaptTrunkConfig, AdaptTrunkInputs

WORDS = [f"w{number:02d}" for number in range(24)]
FAST = {"max_tokens": 16, "batch_size": 16, "epochs": 12, "learning_rate": 3e-3, "head_learning_rate": 1e-2}


def sentences(count: int, *, seed: int = 0) -> list[str]:
    """Texts in which each word is followed by the next one: a hidden word follows from its neighbours."""
    source = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        start, length = source.randrange(len(WORDS)), source.randint(5, 12)
        words = [WORDS[(start + place) % len(WORDS)] for place in range(length)]
        words.insert(source.randrange(length), source.choice(WORDS))
        found[" ".join(words)] = None
    return list(found)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of 2 layers with random weights, whose tokenizer has a mask token."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("masked_base")
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    tokenizer = Tokenizer(models.WordLevel({name: n for n, name in enumerate(names)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(names[:5])
    special = [("[CLS]", 2), ("[SEP]", 3)]
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=special)
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(names),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def table(place: Path, name: str, **columns: list[Any]) -> TableRef:
    from deltalake import write_deltalake

    write_deltalake(str(place / name), pa.table(columns))
    return TableRef(uri=str(place / name), version=0)


def adapted(base: Path, context: StepContext, *tables: TableRef, **changes: Any) -> ModelRef:
    model = changes.pop("model", None)
    start = {} if model else {"base_model": str(base)}
    config = AdaptTrunkConfig.model_validate({**start, **FAST, **changes})
    return adapt_trunk.run(config, AdaptTrunkInputs(tables=tables, model=model), context).model


def part(context: StepContext, name: str, log: Callable[[str], None] = print) -> StepContext:
    """Another step of the same run."""
    workdir = context.workdir / name
    workdir.mkdir()
    return dataclasses.replace(context, workdir=workdir, log=log)


def test_the_texts_of_many_tables_are_counted_to_the_last(tmp_path: Path) -> None:
    first = table(tmp_path, "first", title=["a b", "a b", "  ", None], body=["c", "a b", "d", "e"])
    second = table(
        tmp_path,
        "second",
        body=["c", "f", "g", "h"],
        split=["train", "test", None, "validation"],
        other=[1, 2, 3, 4],
    )
    source = TextSource(("title", "body"), split="split", held_out=0)
    found = distinct_texts([first, second], source, known=[text_key("e")[0]])
    assert sorted(found.train) == ["a b", "c", "d", "g"]
    assert found.keys.tolist() == sorted(text_key(text)[0] for text in found.train)
    counts = found.counts
    assert (counts.values, counts.null, counts.empty, counts.duplicate) == (12, 1, 1, 3)
    assert (counts.other_split, counts.known, counts.learned, counts.held_out) == (2, 1, 4, 0)
    assert sum(vars(counts).values()) == 2 * counts.values
    assert str(counts) == (
        "12 texts read: 4 learned from, 1 learned from before, 3 equal to another, 1 empty, 1 null, "
        "2 of another split"
    )
    # Neither the order of tables nor a budget changes which texts come first.
    assert distinct_texts([second, first], source, known=[text_key("e")[0]]).train == found.train
    few = distinct_texts([first, second], dataclasses.replace(source, most=2))
    assert few.counts.beyond_budget == 3
    assert set(few.train) < {"a b", "c", "d", "e", "g"}


def test_a_text_that_is_held_out_stays_so(tmp_path: Path) -> None:
    texts = sentences(300)
    early, late = table(tmp_path, "early", text=texts[:200]), table(tmp_path, "late", text=texts)
    source = TextSource(("text",), held_out=0.2)
    one, both = distinct_texts([early], source), distinct_texts([early, late], source)
    assert 20 < len(one.held_out) < 60
    assert set(one.held_out) < set(both.held_out)
    assert not set(both.train) & set(both.held_out)
    assert both.counts.duplicate == 200


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"body": ["a"]}, {}, "must have one of the columns .*; got 'text'"),
        ({"text": [1]}, {}, "must hold strings .*; got 'text: int64'; name another column"),
        ({"text": ["a"]}, {"columns": ("text", "titel")}, "must be one of a table's; got 'titel'"),
        (
            {"text": ["a", None]},
            {},
            "got '2 texts read: 1 learned from, 1 null'; add tables or columns, or lower held_out",
        ),
    ],
)
def test_tables_that_cannot_be_read_on_are_refused(
    columns: dict[str, list[Any]],
    options: dict[str, Any],
    message: str,
    base: Path,
    tmp_path: Path,
    step_context: StepContext,
) -> None:
    with pytest.raises(DatasetError, match=message):
        adapted(base, step_context, table(tmp_path, "bad", **columns), held_out=0, **options)


def test_an_encoder_learns_and_whatever_takes_a_base_model_takes_it(
    base: Path, tmp_path: Path, step_context: StepContext, topic_dataset: DatasetRef
) -> None:
    texts = sentences(260)
    lines: list[str] = []
    tables = table(tmp_path, "one", text=texts[:200]), table(tmp_path, "two", text=texts[100:])
    changes: dict[str, Any] = {"held_out": 0.2, "keep_features": 0.0, "train_embeddings": True, "epochs": 30}
    model = adapted(base, part(step_context, "adapt", lines.append), *tables, **changes)
    assert (model.role, model.format, model.parent) == ("base", "encoder", None)
    run = step_context.run.client.get_run(step_context.run.run_id)
    metrics = run.data.metrics
    # 24 words: at random 29 ids are as likely as each other.
    assert 20 < metrics["held_out_perplexity_before"] < 45
    assert metrics["held_out_perplexity_after"] < 0.7 * metrics["held_out_perplexity_before"]
    assert any("it begins anew" in line for line in lines)
    assert any("100 equal to another" in line for line in lines)
    plots = step_context.run.client.list_artifacts(step_context.run.run_id, "plots")
    assert [item.path for item in plots] == ["plots/learning_curve.png"]

    folder = fetch_bundle(model, step_context.cache)
    assert len(read_text_keys(folder)) == metrics["texts_learned"]
    with pytest.raises(ModelError, match="an encoder answers no signal by itself"):
        load_scorer(folder)
    stem = trunk.run(
        trunk.TrunkConfig(method="none"), trunk.TrunkInputs(model=model), part(step_context, "trunk")
    ).trunk
    assert (stem.parent, BundleInfo.load(fetch_bundle(stem, step_context.cache)).max_tokens) == (
        model.uri,
        16,
    )
    heads = train_heads.run(
        train_heads.TrainHeadsConfig(epochs=2),
        train_heads.TrainHeadsInputs(dataset=topic_dataset, trunk=stem),
        part(step_context, "heads"),
    )
    assert heads.signals.count == 1
    config = fine_tune.FineTuneConfig(epochs=1, max_tokens=16, frozen_layers=0)
    inputs = fine_tune.FineTuneInputs(dataset=topic_dataset, base=model)
    teacher = fine_tune.run(config, inputs, part(step_context, "teacher")).model
    assert teacher.parent == model.uri

    with pytest.raises(ModelError, match="a base model is one of format encoder; got 'trunk"):
        adapted(base, step_context, *tables, model=stem)


def test_features_stay_near_those_of_before_if_they_are_asked_to(
    base: Path, tmp_path: Path, step_context: StepContext
) -> None:
    texts = table(tmp_path, "texts", text=sentences(200))
    kept = []
    for weight in (0.0, 20.0):
        context = part(step_context, f"keep-{weight:g}")
        adapted(base, context, texts, held_out=0.2, keep_features=weight)
        found = context.run.client.get_run(context.run.run_id).data.metrics
        kept.append((found["held_out_features_kept_after"], found["held_out_perplexity_after"]))
    assert kept[1][0] > kept[0][0] + 0.02
    assert kept[1][1] < found["held_out_perplexity_before"]


def test_the_next_night_learns_from_what_is_new(
    base: Path, tmp_path: Path, step_context: StepContext
) -> None:
    texts = sentences(450)
    monday = table(tmp_path, "monday", text=texts[:300])
    first = adapted(base, part(step_context, "monday"), monday, max_rows=150)
    keys = read_text_keys(fetch_bundle(first, step_context.cache))
    assert len(keys) == 150

    lines: list[str] = []
    tuesday = table(tmp_path, "tuesday", text=texts)
    second = adapted(base, part(step_context, "tuesday", lines.append), tuesday, model=first)
    assert second.parent == first.uri
    more = read_text_keys(fetch_bundle(second, step_context.cache))
    assert set(keys.tolist()) < set(more.tolist())
    assert any("150 learned from before" in line for line in lines)
    assert not any("it begins anew" in line for line in lines)

    third = adapted(base, part(step_context, "wednesday", lines.append), tuesday, model=second)
    assert third == second
    assert lines[-1].endswith("fewer than 100 are new, so the model stays as it is")


def test_a_registered_encoder_goes_on_from_its_newest_version(
    base: Path, tmp_path: Path, step_context: StepContext
) -> None:
    texts = sentences(400)
    settings = step_context.settings
    config = AdaptTrunkConfig.model_validate(
        {**FAST, "base_model": str(base), "registered_name": "reader", "epochs": 1}
    )
    made, states, lines = [], [], list[str]()
    for night, count in (("monday", 200), ("tuesday", 400), ("wednesday", 400)):
        inputs = AdaptTrunkInputs(tables=(table(tmp_path, night, text=texts[:count]),))
        states.append(adapt_trunk._outside_state(config, inputs, settings))
        made.append(adapt_trunk.run(config, inputs, part(step_context, night, lines.append)).model)
    assert [state.split()[1] for state in states] == ["first", made[0].digest, made[1].digest]
    assert made[1].parent == "models:/reader/1"
    assert (made[2].uri, made[2].digest) == ("models:/reader/2", made[1].digest)
    assert [line for line in lines if "reader" in line] == [
        "it is version 1 of reader",
        "goes on from models:/reader/1, not from base_model",
        "it is version 2 of reader",
        "goes on from models:/reader/2, not from base_model",
    ]


def test_a_tokenizer_without_a_mask_token_is_refused(tiny_base_model: Path) -> None:
    with pytest.raises(ModelError, match=r"one special token that stands for a hidden word, .*; got '0 in"):
        read_vocabulary(tiny_base_model / "tokenizer.json")


def test_an_image_encoder_is_refused_before_anything_runs(image_encoder: Path) -> None:
    with pytest.raises(InputError, match="adapt_trunk hides words, and the base model reads images"):
        adapt_trunk.check(AdaptTrunkConfig(base_model=str(image_encoder)))


_CODE = """
from modelmill.artifacts import TableRef
from modelmill.steps import adapt_trunk
from modelmill.steps.adapt_trunk import AdaptTrunkConfig, AdaptTrunkInputs

config = AdaptTrunkConfig.model_validate({config!r})
made = adapt_trunk.run(config, AdaptTrunkInputs(tables=(TableRef(uri={uri!r}, version=0),)), context).model
print("digest", made.digest)
"""


def test_a_killed_training_ends_in_the_same_bits(
    base: Path, tmp_path: Path, step_process: Callable[[Path, str], Popen[str]]
) -> None:
    texts = table(tmp_path, "texts", text=sentences(200))
    config = {**FAST, "base_model": str(base), "dropout": 0.1, "checkpoint_seconds": 1e-6, "epochs": 2}
    # The last layer of the head is the table of embeddings: both learn.
    code = _CODE.format(config={**config, "train_embeddings": True}, uri=texts.uri)
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


def test_what_is_hidden_is_a_share_of_the_words(base: Path) -> None:
    from modelmill.models.classifier import collate
    from modelmill.models.language_model import load_language_model
    from modelmill.tokens.texts import TextList

    model, _, _ = load_language_model(str(base), max_tokens=16, dropout=0.0, share=0.15)
    ids, mask = collate(TextList(sentences(400)).tokens(base, max_tokens=16), np.arange(400))
    words = (mask == 1) & (ids >= 5)
    for training in (False, True):
        asked, shown = model.train(training)._hide(ids, mask)
        assert not asked[~words].any()
        assert float(asked.sum() / words.sum()) == pytest.approx(0.15, abs=0.02)
        assert torch.equal(shown[~asked], ids[~asked])
        assert float((shown[asked] == 4).float().mean()) == pytest.approx(0.8, abs=0.06)
        assert float((shown[asked] == ids[asked]).float().mean()) == pytest.approx(0.1, abs=0.06)
