"""Versions with known holes are found by a list that needs no network; nothing is installed for it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from modelmill.cli.findings import LEAST, is_older

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("advisories", ROOT / "scripts/advisories.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["advisories"] = module  # its dataclass looks there for its own annotations
    spec.loader.exec_module(module)
    return module


def test_nothing_with_a_hole_is_installed_or_pinned(script: ModuleType) -> None:
    pins = list(script.pinned())
    places = {place for _, _, place in pins}
    assert {"constraints.txt", "docker/locks/demo.txt"} <= places
    assert len(pins) > 500
    assert len(list(script.installed())) > 100
    assert script.problems([*script.installed(), *pins], script.advisories()) == []


@pytest.mark.parametrize(
    ("name", "version", "has_hole"),
    [
        *(
            ("transformers", "5.22.9", True),
            ("transformers", "5.23.0rc1", True),
            ("transformers", "5.24.0", False),
        ),
        *(("torch", "2.9.1+cpu", True), ("torch", "2.10.0+cpu", False), ("Torch", "2.5", True)),
        *(("onnx", "1.20.0", True), ("onnx", "1.21.0", False), ("mlflow", "3.10.1", True)),
        *(("mlflow_skinny", "3.11", False), ("mlflow_skinny", "2.0", True), ("mlflow", "3.17.2", False)),
        *(("apache_airflow.core", "3.3.1", True), ("apache-airflow-core", "3.3.2", False)),
        *(("lightning", "2.6.1", False), ("lightning", "2.6.2", True), ("lightning", "2.6.3", True)),
        *(("pytorch_lightning", "2.6.3", True), ("lightning", "2.6.6", False), ("litellm", "1.82.8", True)),
        *(("litellm", "1.82.6", False), ("litellm", "1.83.0", False), ("torch", "no version", True)),
    ],
)
def test_versions_within_a_range_are_named_with_the_hole(
    script: ModuleType, name: str, version: str, has_hole: bool
) -> None:
    found = script.problems([(name, version, "here"), ("pydantic", "0.1", "here")], script.advisories())
    assert len(found) == has_hole
    for line in found:
        assert line.startswith(f"here: {name} {version} has ")
        assert "CVE-" in line or "GHSA-" in line or "#" in line


def test_the_floors_of_the_doctor_are_above_the_holes(script: ModuleType) -> None:
    for one in script.advisories():
        if one.name in LEAST:
            assert not one.covers(LEAST[one.name])
            assert all(not is_older(LEAST[one.name], each.version) for range_ in one.bad for each in range_)


def test_pins_are_read_as_they_are_written(script: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "docker/locks").mkdir(parents=True)
    (tmp_path / "constraints.txt").write_text(
        "# litellm==1.82.7\nlitellm[proxy]==1.82.8 ; python_version > '3'\n"
    )
    (tmp_path / "docker/locks/a.txt").write_text("lightning==2.6.2 \\\n    --hash=sha256:00\n")
    assert list(script.pinned(tmp_path)) == [
        ("litellm", "1.82.8", "constraints.txt"),
        ("lightning", "2.6.2", "docker/locks/a.txt"),
    ]


def test_the_command_fails_on_a_hole(tmp_path: Path) -> None:
    """A distribution that nobody installed: its metadata lies where Python looks for modules."""
    command = [sys.executable, str(ROOT / "scripts/advisories.py")]
    sound = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (sound.returncode, sound.stderr) == (0, "")
    folder = tmp_path / "litellm-1.82.8.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: litellm\nVersion: 1.82.8\n")
    weak = subprocess.run(
        command, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(tmp_path), "PATH": ""}
    )
    assert weak.returncode == 1
    assert weak.stderr.startswith(
        "installed: litellm 1.82.8 has BerriAI/litellm#24518: published by an attacker"
    )


@pytest.mark.parametrize("text", ['name = "a"\nbad = []\nids = ["x"]\nwhy = "y"', 'name = "a"\nbad = ["<1"]'])
def test_a_list_that_is_not_whole_is_refused(script: ModuleType, tmp_path: Path, text: str) -> None:
    (tmp_path / "list.toml").write_text(f"[[advisory]]\n{text}\n")
    with pytest.raises(ValueError, match="an advisory has a name"):
        script.advisories(tmp_path / "list.toml")


def test_each_check_of_the_repository_looks_for_them() -> None:
    assert "scripts/advisories.py" in (ROOT / "run").read_text()
