"""Files that are not those that were logged are refused at promotion and at each load."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest

from modelmill.artifacts import ModelRef, VerdictRef
from modelmill.component import StepContext
from modelmill.errors import ConfigError, ModelError, ModelmillError
from modelmill.registry import bundles, promotion
from modelmill.registry.bundles import fetch_bundle
from modelmill.registry.signing import verify_digest

Tamper = Callable[[Path, Path], None]


def flip(name: str, place: float) -> Tamper:
    def tamper(bundle: Path, other: Path) -> None:
        content = bytearray((bundle / name).read_bytes())
        content[int(place * (len(content) - 1))] ^= 1
        (bundle / name).write_bytes(content)

    return tamper


def write(name: str, change: Callable[[bytes], bytes]) -> Tamper:
    def tamper(bundle: Path, other: Path) -> None:
        path = bundle / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(change(path.read_bytes() if path.exists() else b""))

    return tamper


def edit_info(**changes: object) -> Tamper:
    return write("modelmill.json", lambda old: json.dumps({**json.loads(old), **changes}).encode())


def remove(name: str) -> Tamper:
    return lambda bundle, other: (bundle / name).unlink()


def swap(name: str) -> Tamper:
    return lambda bundle, other: shutil.copy(other / name, bundle / name) and None


def swap_everything(bundle: Path, other: Path) -> None:
    shutil.rmtree(bundle)
    shutil.copytree(other, bundle)


def link_to_other(bundle: Path, other: Path) -> None:
    (bundle / "model.onnx").unlink()
    (bundle / "model.onnx").symlink_to(other / "model.onnx")


def folder_for_file(bundle: Path, other: Path) -> None:
    (bundle / "model.onnx").unlink()
    (bundle / "model.onnx").mkdir()
    shutil.copy(other / "model.onnx", bundle / "model.onnx" / "model.onnx")


def rename(old: str, new: str) -> Tamper:
    return lambda bundle, other: (bundle / old).rename(bundle / new) and None


def empty_everything(bundle: Path, other: Path) -> None:
    for path in bundle.iterdir():
        path.unlink()


def swap_files_inside(bundle: Path, other: Path) -> None:
    first, second = (bundle / name for name in ("tokenizer.json", "modelmill.json"))
    one, two = first.read_bytes(), second.read_bytes()
    first.write_bytes(two)
    second.write_bytes(one)


TAMPERS: dict[str, Tamper] = {
    "first bit of the graph": flip("model.onnx", 0),
    "a bit in the middle": flip("model.onnx", 0.5),
    "last bit of the graph": flip("model.onnx", 1),
    "a bit of the tokenizer": flip("tokenizer.json", 0.3),
    "a byte cut off": write("model.onnx", lambda old: old[:-1]),
    "half cut off": write("model.onnx", lambda old: old[: len(old) // 2]),
    "a byte added": write("model.onnx", lambda old: old + b"\0"),
    "an empty graph": write("model.onnx", lambda old: b""),
    "an empty tokenizer": write("tokenizer.json", lambda old: b""),
    "no graph": remove("model.onnx"),
    "no tokenizer": remove("tokenizer.json"),
    "no description": remove("modelmill.json"),
    "nothing at all": empty_everything,
    "one more file": write("weights.pkl", lambda old: b"\x80\x04."),
    "a hidden file": write(".hidden", lambda old: b"x"),
    "an empty file more": write("nothing", lambda old: b""),
    "a file in a folder": write("more/model.onnx", lambda old: b"x"),
    "classes exchanged": edit_info(classes=["trade", "sport"]),
    "another label": edit_info(label="mood"),
    "the same JSON, laid out otherwise": write(
        "modelmill.json", lambda old: json.dumps(json.loads(old)).encode()
    ),
    "another model's graph": swap("model.onnx"),
    "another model": swap_everything,
    "a link to another model's graph": link_to_other,
    "a folder in a file's place": folder_for_file,
    "two files exchanged": swap_files_inside,
    "another case of a name": rename("model.onnx", "Model.onnx"),
    "a name with a line end": rename("tokenizer.json", "tokenizer.json\n"),
    "a name that looks the same": rename("tokenizer.json", "tokenizer.js\u043en"),
}


def stored(model: ModelRef) -> Path:
    """Where MLflow keeps a logged model."""
    logged = mlflow.get_logged_model(model.uri.removeprefix("models:/"))
    return Path(logged.artifact_location.removeprefix("file://"))


@pytest.mark.parametrize("name", TAMPERS)
def test_tampered_files_are_refused(
    name: str,
    propose: Callable[..., ModelRef],
    accepted: Callable[..., VerdictRef],
    step_context: StepContext,
    tmp_path: Path,
) -> None:
    model, other = propose("model"), propose("other", skill=-1.0)
    verdict = accepted(model)
    TAMPERS[name](stored(model) / "artifacts" / "bundle", stored(other) / "artifacts" / "bundle")
    with pytest.raises(ModelmillError):
        promotion.promote(verdict, step_context)
    assert promotion.champion_version("topics", step_context.settings) is None
    with pytest.raises(ModelmillError):
        fetch_bundle(model, tmp_path / "elsewhere")
    with pytest.raises((ModelmillError, OSError)):
        mlflow.pyfunc.load_model(model.uri)
    kept = step_context.cache / "models" / model.digest
    if name not in ("another model's graph", "a link to another model's graph"):
        TAMPERS[name](kept, step_context.cache / "models" / other.digest)
        with pytest.raises(ModelmillError):  # it is fetched again, and what MLflow stores is no better
            fetch_bundle(model, step_context.cache)


@pytest.mark.parametrize("file", ["MLmodel", "python_env.yaml", "input_example.json", "modelmill_was_here"])
def test_files_around_the_bundle_count_too(
    file: str,
    propose: Callable[..., ModelRef],
    accepted: Callable[..., VerdictRef],
    step_context: StepContext,
    tmp_path: Path,
) -> None:
    model = propose("model")
    assert fetch_bundle(model, tmp_path / "before")
    path = stored(model) / file
    path.write_bytes((path.read_bytes() if path.exists() else b"") + b"\n# and more\n")
    with pytest.raises(ModelError, match="the files that MLflow loads a model with"):
        promotion.promote(accepted(model), step_context)
    with pytest.raises(ModelError, match="the files that MLflow loads a model with"):
        fetch_bundle(model, tmp_path / "elsewhere")


@pytest.mark.parametrize("line_end", ["\r", "\x85", "\u2028", "\n"])
def test_nothing_hides_in_the_line_with_the_models_id(
    line_end: str, propose: Callable[..., ModelRef], tmp_path: Path
) -> None:
    # The line does not count in the digest, for MLflow gives out the id after the tags.
    model = propose("model")
    path = stored(model) / "MLmodel"
    line = f"model_id: {model.uri.removeprefix('models:/')}"
    assert path.read_text().count(f"\n{line}\n") == 1
    assert mlflow.models.Model.load(str(path)).model_id == model.uri.removeprefix("models:/")
    path.write_bytes(path.read_bytes().replace(line.encode(), f"{line}{line_end}flavors: {{}}".encode()))
    with pytest.raises(ModelError, match="the files that MLflow loads a model with"):
        fetch_bundle(model, tmp_path / "elsewhere")


@pytest.mark.parametrize(
    "digest", ["../../../etc", "", "0" * 63, "A" * 64, "0" * 64 + "/..", "0" * 64 + "\n"]
)
def test_a_digest_that_is_a_path_is_refused(
    digest: str, propose: Callable[..., ModelRef], tmp_path: Path
) -> None:
    model = propose("model").model_copy(update={"digest": digest})
    with pytest.raises(ModelError, match="64 hexadecimal digits"):
        fetch_bundle(model, tmp_path)
    assert list(tmp_path.glob("models/*")) == []


@pytest.mark.parametrize("damage", ["flip", "lost", "link"])
def test_a_damaged_cached_model_is_fetched_again(
    propose: Callable[..., ModelRef], step_context: StepContext, tmp_path: Path, damage: str
) -> None:
    model = propose("model")
    graph = fetch_bundle(model, step_context.cache) / "model.onnx"
    content = bytearray(graph.read_bytes())
    graph.unlink()
    if damage == "flip":
        content[100] ^= 1
        graph.write_bytes(content)
    elif damage == "link":
        (tmp_path / "graph").write_bytes(content)
        graph.symlink_to(tmp_path / "graph")
    verify_digest(fetch_bundle(model, step_context.cache), model.digest)
    assert not graph.is_symlink()


def test_a_link_to_the_very_same_file_is_refused_too(
    propose: Callable[..., ModelRef], step_context: StepContext, tmp_path: Path
) -> None:
    model = propose("model")
    folder = fetch_bundle(model, step_context.cache)
    graph = (folder / "model.onnx").rename(tmp_path / "graph")
    (folder / "model.onnx").symlink_to(graph)
    with pytest.raises(ModelError, match="plain files, without links"):
        verify_digest(folder, model.digest)


def test_a_version_swapped_after_its_promotion_is_found_before_it_is_used(
    accepted: Callable[..., VerdictRef],
    propose: Callable[..., ModelRef],
    step_context: StepContext,
    tmp_path: Path,
) -> None:
    model, other = propose("model"), propose("other", skill=-1.0)
    champion = promotion.promote(accepted(model), step_context)
    swap_everything(stored(model) / "artifacts" / "bundle", stored(other) / "artifacts" / "bundle")
    with pytest.raises(ModelError, match="must have the digest"):
        fetch_bundle(champion, tmp_path / "elsewhere")
    with pytest.raises(ModelError, match="must have the digest"):
        mlflow.pyfunc.load_model("models:/topics@champion")


def test_the_directory_of_downloads_is_nobody_elses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles.tempfile, "gettempdir", lambda: str(tmp_path))
    place = bundles.worker_cache()
    assert place.stat().st_mode & 0o777 == 0o700
    assert bundles.worker_cache() == place
    place.rmdir()
    (tmp_path / "mine").mkdir()
    place.symlink_to(tmp_path / "mine")
    with pytest.raises(ConfigError, match="must belong to the user"):
        bundles.worker_cache()
