"""What is said of another distribution that is broken, by the commands that read its entry points."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def said(site: Path, entry: str, module: str) -> str:
    """Return what the command line says where a distribution is installed."""
    info = site / "broken-0.1.dist-info"
    info.mkdir(parents=True)
    (site / "broken_mill.py").write_text(module)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text(entry)
    rules = site / "rules.yaml"
    rules.write_text("{rule_set: r, key: id, signals: {a: {kind: column}}, rules: [], default: x}")
    command = ["rules", "validate", str(rules)] if "signals" in entry else ["components"]
    ended = subprocess.run(
        [sys.executable, "-m", "modelmill", *command],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])},
    )
    assert ended.returncode != 0
    return ended.stderr


@pytest.mark.parametrize("group", ["components", "signals"])
def test_a_module_that_cannot_be_imported_is_named(tmp_path: Path, group: str) -> None:
    told = said(tmp_path, f"[modelmill.{group}]\nmine = broken_mill\n", "\nfrom nowhere import nothing\n")
    assert told.startswith("modelmill: ConfigError: what an entry point names must be importable")
    assert f"(modelmill.{group} of broken: mine = broken_mill)" in told
    assert "ModuleNotFoundError: No module named 'nowhere'" in told
    assert f"correct it in {tmp_path / 'broken_mill.py'}, line 2, or uninstall" in told


@pytest.mark.parametrize(("group", "noun"), [("components", "Component"), ("signals", "SignalKind")])
def test_a_module_that_declares_nothing_is_named(tmp_path: Path, group: str, noun: str) -> None:
    told = said(tmp_path, f"[modelmill.{group}]\nmine = broken_mill\n", "a = 1\n")
    assert told.startswith(f"modelmill: ConfigError: an entry point names a module with a {noun} at its top")
    assert f"(modelmill.{group} of broken: mine = broken_mill); got 'none'; assign the {noun}" in told
