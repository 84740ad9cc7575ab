"""Models made by hand, so that every answer is known: a logit is the sum of a weight for each word."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers

from modelmill.artifacts import DatasetRef, ModelRef
from modelmill.component import StepContext
from modelmill.datasets.options import LabelKind
from modelmill.models.bundle import BundleInfo, bundle_digest

MakeModel = Callable[..., ModelRef]


@pytest.fixture
def log_lines(step_context: StepContext) -> list[str]:
    """What the step has said so far, if it is run with ``spoken``."""
    return []


@pytest.fixture
def spoken(step_context: StepContext, log_lines: list[str]) -> StepContext:
    """The step's context; what is logged goes to ``log_lines``."""
    return replace(step_context, log=log_lines.append)


@pytest.fixture
def make_model(spoken: StepContext, tmp_path: Path) -> MakeModel:
    """Return a function that makes an ONNX model and puts it where a step of this machine finds it."""

    def make(
        words: Mapping[str, str | float],
        *,
        target: LabelKind = "class",
        role: str = "teacher",
        label: str = "topic",
        classes: Sequence[str] = ("sport", "trade"),
        padding: int = 0,
    ) -> ModelRef:
        folder = tmp_path / "making"
        folder.mkdir()
        vocabulary = {word: number for number, word in enumerate(["[UNK]", *words])}
        tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer.save(str(folder / "tokenizer.json"))
        weights = np.zeros((len(vocabulary) + padding, len(classes) or 1), np.float32)
        for word, meaning in words.items():
            if isinstance(meaning, str):
                weights[vocabulary[word], list(classes).index(meaning)] = 1
            else:
                weights[vocabulary[word], 0] = meaning
        onnx.save(_graph(weights), folder / "model.onnx")
        info = BundleInfo(
            format="onnx",
            label=label,
            classes=tuple(classes),
            target=target,
            text="body",
            max_tokens=32,
            parameters=weights.size,
        )
        info.save(folder)
        digest = bundle_digest(folder)
        place = spoken.cache / "models" / digest
        place.parent.mkdir(exist_ok=True)
        folder.rename(place)
        uri = f"models:/m-{digest[:32]}"
        return ModelRef(uri=uri, run_id=spoken.run.run_id, digest=digest, format="onnx", role=role)

    return make


def _graph(weights: np.ndarray) -> onnx.ModelProto:
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["weights", "input_ids"], ["tokens"]),
            helper.make_node("ReduceSum", ["tokens", "axis"], ["logits"], keepdims=0),
        ],
        "words",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["rows", "tokens"])
            for name in ("input_ids", "attention_mask")
        ],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", weights.shape[1]])],
        [
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(np.array([1], np.int64), "axis"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[..., DatasetRef]:
    """Return a function that writes rows ``(text, label, split)`` as a dataset."""

    def make(rows: Sequence[tuple[str, str | None, str]], *, name: str = "made") -> DatasetRef:
        import pyarrow as pa
        from deltalake import write_deltalake

        texts, labels, splits = zip(*rows, strict=True)
        columns = {
            "id": pa.array([f"row-{number:03d}" for number in range(len(rows))]),
            "body": pa.array(texts),
            "topic": pa.array(labels, pa.string()),
            "split": pa.array(splits),
        }
        uri = str(tmp_path / "tables" / name)
        write_deltalake(uri, pa.table(columns))
        return DatasetRef(uri=uri, version=0, key="id", text="body", labels=("topic",), split="split")

    return make
