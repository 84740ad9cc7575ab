"""What a step's log begins with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FORKS = "from importlib import import_module as load; [*map(load, load('modelmill.cli.step_forks').MODULES)]"
"""What the process that forks steps imports, in its order."""


@pytest.mark.parametrize("statement", ["import modelmill.models.base_model", FORKS], ids=["models", "forks"])
def test_models_are_imported_without_a_word(statement: str, tmp_path: Path) -> None:
    pytest.importorskip("torchao")
    script = tmp_path / "imports.py"  # Spark's client takes `python -c` for a doctest, and talks
    script.write_text(f"{statement}; import sys; assert 'torchao' in sys.modules")
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
