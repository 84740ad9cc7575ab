"""Another distribution, installed for one test: its package and the entry points that its metadata names."""

from __future__ import annotations

import importlib
import os
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelmill.pipeline import pipeline_files
from modelmill.pipeline.catalogue import catalogue

# What is in ``installed`` runs in a process of its own: see ``test_installed.py``.
collect_ignore = [] if "MODELMILL_EXTENSION" in os.environ else ["installed", "distribution"]

DISTRIBUTION = Path(__file__).parent / "distribution"


@pytest.fixture
def extension(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install the distribution for this process and its children, as ``pip install`` would."""
    project = tomllib.loads((DISTRIBUTION / "pyproject.toml").read_text())["project"]
    info = tmp_path / "site" / "acme_mill-0.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-mill\nVersion: 0.1\n")
    lines = []
    for group, entries in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    paths = [str(DISTRIBUTION), str(info.parent)]
    for path in paths:
        monkeypatch.syspath_prepend(path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")]))
    importlib.invalidate_caches()
    catalogue.cache_clear()
    pipeline_files._parsed.cache_clear()
    yield
    catalogue.cache_clear()
    pipeline_files._parsed.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "acme_mill"]:
        del sys.modules[name]
