"""A step's key knows what the step reads: tables that were written anew, base models that have changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from modelmill.artifacts import DatasetRef, TableRef
from modelmill.pipeline.request import step_key
from modelmill.settings import Settings
from modelmill.steps.fine_tune import FineTuneConfig, FineTuneInputs, fine_tune
from modelmill.steps.trunk import TrunkConfig, TrunkInputs, trunk
from modelmill.system import digests


def write(place: Path, *values: int) -> None:
    for value in values:
        write_deltalake(str(place), pa.table({"n": [value], "text": [str(value)]}), mode="append")


def key_of(dataset: Path, settings: Settings, *, base_model: Path) -> str:
    ref = DatasetRef(uri=str(dataset), version=1, key="n", text="text", labels=("n",), split="split")
    config = FineTuneConfig(base_model=str(base_model))
    return step_key(fine_tune, config, FineTuneInputs(dataset=ref), settings)


@pytest.fixture
def base_model(tmp_path: Path, tiny_base_model: Path) -> Path:
    copy = tmp_path / "base"
    shutil.copytree(tiny_base_model, copy)
    return copy


def test_a_table_that_was_dropped_and_written_anew_is_another_one(
    tmp_path: Path, settings: Settings, base_model: Path
) -> None:
    place = tmp_path / "table"
    write(place, 1, 2)
    first = key_of(place, settings, base_model=base_model)
    assert key_of(place, settings, base_model=base_model) == first
    shutil.copytree(place, tmp_path / "copy")
    shutil.rmtree(place)
    gone = key_of(place, settings, base_model=base_model)
    write(place, 1, 2)
    assert len({first, gone, key_of(place, settings, base_model=base_model)}) == 3
    shutil.rmtree(place)
    shutil.copytree(tmp_path / "copy", place)
    assert key_of(place, settings, base_model=base_model) == first, "a restored backup is the same table"


def test_later_versions_and_checkpoints_change_nothing(
    tmp_path: Path, settings: Settings, base_model: Path
) -> None:
    place = tmp_path / "table"
    write(place, 1, 2)
    first = key_of(place, settings, base_model=base_model)
    write(place, 3)
    DeltaTable(str(place)).create_checkpoint()
    assert key_of(place, settings, base_model=base_model) == first


def test_only_the_first_commit_tells_two_tables_apart(
    tmp_path: Path, settings: Settings, base_model: Path
) -> None:
    """By hand: the second commits are the same to the byte."""
    one, other = tmp_path / "table", tmp_path / "other"
    write(one, 1, 2)
    write(other, 3, 2)
    first = key_of(one, settings, base_model=base_model)
    name = "_delta_log/00000000000000000000.json"
    (one / name).write_bytes((other / name).read_bytes())
    assert key_of(one, settings, base_model=base_model) != first


def test_a_base_model_whose_weights_changed_is_another_one(
    tmp_path: Path, settings: Settings, base_model: Path
) -> None:
    place = tmp_path / "table"
    write(place, 1, 2)
    first = key_of(place, settings, base_model=base_model)
    of_trunk = step_key(trunk, TrunkConfig(base_model=str(base_model)), TrunkInputs(), settings)
    weights = base_model / "model.safetensors"
    before, content = weights.stat(), bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))  # as a copy with its old times has
    assert key_of(place, settings, base_model=base_model) != first
    assert step_key(trunk, TrunkConfig(base_model=str(base_model)), TrunkInputs(), settings) != of_trunk


def test_a_file_is_hashed_again_only_if_it_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_text("a")
    hashed: list[Path] = []
    original = digests.file_digest
    monkeypatch.setattr(digests, "file_digest", lambda path: hashed.append(path) or original(path))
    monkeypatch.setattr(digests, "SETTLED_NANOSECONDS", -1)  # it is some seconds old
    memory = tmp_path / "memory"
    (first,) = digests.file_digests(tmp_path, ["a"], memory=memory).values()
    assert digests.file_digests(tmp_path, ["a"], memory=memory) == {"a": first}
    assert len(hashed) == 1
    (tmp_path / "b").write_text("a")
    (tmp_path / "b").replace(tmp_path / "a")  # another inode, the same content
    assert digests.file_digests(tmp_path, ["a"], memory=memory) == {"a": first}
    assert len(hashed) == 2
    next(memory.iterdir()).write_text("{ not JSON")
    assert digests.file_digests(tmp_path, ["a"], memory=memory) == {"a": first}
    with pytest.raises(OSError, match="not a regular file"):
        digests.file_digests(Path("/dev"), ["zero"], memory=memory)


def test_a_file_that_has_just_been_written_is_not_remembered(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    digests.file_digests(tmp_path, ["a"], memory=tmp_path / "memory")
    assert not (tmp_path / "memory").exists()


def test_a_reference_to_a_table_that_is_not_there_has_a_key(settings: Settings, tmp_path: Path) -> None:
    assert TableRef(uri=str(tmp_path / "none"), version=1)
    assert len(key_of(tmp_path / "none", settings, base_model=tmp_path / "no model")) == 64


def test_a_key_imports_nothing_heavy(settings: Settings, tmp_path: Path, base_model: Path) -> None:
    """A night over unchanged tables consists of keys: whether the tables are there or not."""
    write(tmp_path / "table", 1, 2)
    code = """
import sys
from modelmill.artifacts import DatasetRef
from modelmill.pipeline.request import step_key
from modelmill.settings import Settings
from modelmill.steps.fine_tune import FineTuneConfig, FineTuneInputs, fine_tune
for uri in sys.argv[1:3]:
    ref = DatasetRef(uri=uri, version=1, key="n", text="text", labels=("n",), split="split")
    config = FineTuneConfig(base_model=sys.argv[3])
    step_key(fine_tune, config, FineTuneInputs(dataset=ref), Settings.from_environment())
print([name for name in ("deltalake", "pyarrow", "torch", "transformers", "mlflow") if name in sys.modules])
"""
    places = [str(tmp_path / "table"), str(tmp_path / "none"), str(base_model)]
    done = subprocess.run([sys.executable, "-c", code, *places], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_new_version_of_a_distribution_changes_the_keys_of_the_steps_that_may_run_its_code(
    tmp_path: Path,
) -> None:
    def keys(*distributions: tuple[str, str, str]) -> dict[str, str]:
        site = tmp_path / "-".join(["site", *(name + version for name, version, _ in distributions)])
        site.mkdir()
        for name, version, group in distributions:
            info = site / f"{name}-{version}.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
            (info / "entry_points.txt").write_text(f"[{group}]\nmine = json\n")
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(site), *filter(None, sys.path)])}
        command = [sys.executable, "-c", KEYS_SCRIPT, str(rules)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        found: dict[str, str] = json.loads(done.stdout)
        return found

    rules = tmp_path / "rules.yaml"
    rules.write_text(RULES)
    alone = keys()
    method = keys(("acme", "1.0", "modelmill.quantization"))
    assert {name for name in alone if alone[name] != method[name]} == {"quantize"}
    assert method["quantize"] != keys(("acme", "1.1", "modelmill.quantization"))["quantize"]
    measure = keys(("acme", "2.0", "modelmill.measures"))
    assert {name for name in alone if alone[name] != measure[name]} == {"try_rules"}


RULES = """
rule_set: short
key: n
signals: {words: {kind: measured, function: words, columns: [text]}}
rules: [{name: short, when: words < 3, then: reject}]
default: keep
"""

KEYS_SCRIPT = """
import json, sys
from modelmill.artifacts import DatasetRef, ModelRef, TableRef
from modelmill.pipeline.catalogue import catalogue
from modelmill.pipeline.request import step_key
from modelmill.settings import Settings

data = DatasetRef(uri="/nowhere", version=1, key="n", text="text", labels=("n",), split="split")
model = ModelRef(uri="runs:/1/model", run_id="1", digest="0" * 64, format="onnx", role="exported")
keys = {}
for name, ports in {
    "quantize": {"dataset": data, "model": model},
    "evaluate": {"dataset": data, "models": [model]},
    "try_rules": {"table": TableRef(uri="/nowhere", version=1)},
}.items():
    component = catalogue()[name]
    config = {"rule_set": sys.argv[1]} if name == "try_rules" else {}
    keys[name] = step_key(
        component, component.config(**config), component.inputs(**ports), Settings.from_environment()
    )
print(json.dumps(keys))
"""
