"""Scoring with a bundle: both formats agree, and an ONNX answer does not depend on its neighbours."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from modelmill.compression.quantization.int8 import int8_dynamic
from modelmill.errors import ModelError
from modelmill.models.base_model import load_base_model
from modelmill.models.bundle import BundleInfo
from modelmill.models.classifier import Classifier, parameter_count, save_classifier
from modelmill.models.onnx_export import export_onnx
from modelmill.models.predictions import answers_of_many
from modelmill.models.scorers import load_scorer
from modelmill.tokens.token_ids import Tokens

CLASSES = ("sport", "trade", "weather")


@pytest.fixture(scope="session")
def bundles(tiny_base_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One model as a torch bundle, as an fp32 ONNX bundle, and as an int8 one."""
    folder = tmp_path_factory.mktemp("bundles")
    base = load_base_model(str(tiny_base_model), max_tokens=16, dropout=0.1)
    torch.manual_seed(3)
    model = Classifier(base.encoder, classes=3).eval()
    torch.nn.init.normal_(model.head.weight)
    info = BundleInfo(
        format="torch",
        label="topic",
        classes=CLASSES,
        text="body",
        max_tokens=16,
        parameters=parameter_count(model),
    )
    save_classifier(model, folder / "torch", tokenizer=base.tokenizer, info=info)
    for name in ("fp32", "int8"):
        (folder / name).mkdir()
        (folder / name / "tokenizer.json").write_bytes(base.tokenizer.read_bytes())
        info.model_copy(update={"format": "onnx"}).save(folder / name)
    export_onnx(model, folder / "fp32" / "model.onnx")
    int8_dynamic(folder / "fp32" / "model.onnx", folder / "int8" / "model.onnx", Tokens.of([]))
    return {name: folder / name for name in ("torch", "fp32", "int8")}


@pytest.fixture(scope="session")
def texts(topic_rows: Callable[..., list[tuple[str, str]]]) -> list[str]:
    return ["", "goal", "unknown words only", "the " * 40, *(text for text, _ in topic_rows(60))]


@pytest.mark.parametrize("name", ["torch", "fp32", "int8"])
def test_every_format_answers(bundles: dict[str, Path], texts: list[str], name: str) -> None:
    scorer = load_scorer(bundles[name])
    assert scorer.info.classes == CLASSES
    logits = scorer.logits(texts)
    assert (logits.shape, logits.dtype) == ((len(texts), 3), np.float32)
    assert np.isfinite(logits).all()
    probabilities = scorer.probabilities(texts)
    assert probabilities.dtype == np.float32
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(len(texts)), abs=1e-6)
    expected = [CLASSES[row] for row in probabilities.argmax(axis=1)]
    assert scorer.predict(texts) == expected
    assert len(set(expected)) > 1
    assert np.array_equal(scorer.logits(texts), logits)


@pytest.mark.parametrize("name", ["torch", "fp32", "int8"])
def test_no_texts_give_no_answers(bundles: dict[str, Path], name: str) -> None:
    scorer = load_scorer(bundles[name])
    assert scorer.logits([]).shape == (0, 3)
    assert scorer.probabilities([]).shape == (0, 3)
    assert scorer.predict([]) == []


def test_the_export_agrees_with_torch(bundles: dict[str, Path], texts: list[str]) -> None:
    plain, exported = load_scorer(bundles["torch"]), load_scorer(bundles["fp32"])
    assert np.abs(plain.logits(texts) - exported.logits(texts)).max() < 1e-4
    assert plain.info.task.agreement(plain.logits(texts), exported.logits(texts)) == 1.0


@pytest.mark.parametrize("name", ["fp32", "int8"])
def test_an_answer_does_not_depend_on_its_neighbours(
    bundles: dict[str, Path], texts: list[str], name: str
) -> None:
    scorer = load_scorer(bundles[name], threads=4)
    alone = np.concatenate([scorer.logits([text]) for text in texts])
    assert np.array_equal(scorer.logits(texts), alone)
    shuffled = list(range(len(texts)))
    random.Random(0).shuffle(shuffled)
    assert np.array_equal(scorer.logits([texts[row] for row in shuffled]), alone[shuffled])
    assert np.array_equal(load_scorer(bundles[name], threads=1).logits(texts), alone)
    assert np.array_equal(
        scorer.probabilities(texts), np.concatenate([scorer.probabilities([text]) for text in texts])
    )


def test_the_tokenizers_own_padding_and_limit_are_not_followed(bundles: dict[str, Path]) -> None:
    # The file says 6 tokens and padding to 8; the bundle says 16.
    scorer = load_scorer(bundles["fp32"])
    long, longer = "the " * 10 + "goal", "the " * 10 + "bank"
    assert not np.array_equal(scorer.logits([long]), scorer.logits([longer]))
    cut, as_cut = "the " * 14 + "goal", "the " * 14 + "bank"
    assert np.array_equal(scorer.logits([cut]), scorer.logits([as_cut]))


def test_an_onnx_bundle_is_scored_without_torch(bundles: dict[str, Path]) -> None:
    script = (
        "import sys; from pathlib import Path; from modelmill.models.scorers import load_scorer; "
        f"print(load_scorer(Path({str(bundles['int8'])!r})).predict(['goal'])); "
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def test_a_broken_graph_is_refused(bundles: dict[str, Path], tmp_path: Path) -> None:
    for path in bundles["int8"].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "model.onnx").write_bytes(b"not a graph")
    with pytest.raises(ModelError) as caught:
        load_scorer(tmp_path)
    assert str(caught.value) == (
        "model.onnx must be a graph that ONNX Runtime loads (InvalidProtobuf); "
        f"got '{tmp_path}/model.onnx'; export the model again"
    )


def test_weights_that_do_not_fit_are_refused(bundles: dict[str, Path], tmp_path: Path) -> None:
    for path in bundles["torch"].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    info = BundleInfo.load(tmp_path).model_copy(update={"classes": ("a", "b")})
    info.save(tmp_path)
    with pytest.raises(ModelError) as caught:
        load_scorer(tmp_path)
    assert str(caught.value) == (
        "model.safetensors must hold the weights that config.json describes (RuntimeError); "
        f"got '{tmp_path}'; make the model again with modelmill"
    )


def test_many_signals_are_answered_as_each_is_alone() -> None:
    drawn = np.random.default_rng(0)
    curves = ((0.0, 0.5, 1.0),) * 3
    kinds: list[dict[str, object]] = [
        {"classes": ("no", "yes")},
        {"classes": ("no", "yes"), "calibration": {"kind": "temperature", "temperature": 1.7}},
        {"classes": ("a", "b", "c")},
        {"classes": ("a", "b", "c"), "calibration": {"kind": "isotonic", "points": curves, "values": curves}},
        {"classes": ("x", "y"), "target": "classes"},
        {"classes": (), "target": "number"},
        {"classes": tuple(map(str, range(20)))},
    ]
    common = {"format": "onnx", "label": "l", "text": "t", "max_tokens": 8, "parameters": 1}
    infos = {
        f"{number}-{copy}": BundleInfo.model_validate(common | kind)
        for copy in range(2)
        for number, kind in enumerate(kinds)
    }
    for rows in (1, 5):
        logits = {
            name: drawn.normal(size=(rows, info.outputs), scale=4).astype(np.float32)
            for name, info in infos.items()
        }
        found = answers_of_many(infos, logits)
        assert found.keys() == infos.keys()
        for name, info in infos.items():
            assert found[name] == info.answers(logits[name]), name
    assert answers_of_many(infos, {}) == {}
