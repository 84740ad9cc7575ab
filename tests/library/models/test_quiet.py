"""What a step's log begins with."""

from __future__ import annotations

import subprocess
import sys

import pytest

FORKS = "from importlib import import_module as load; [*map(load, load('modelmill.cli.step_forks').MODULES)]"
"""What the process that forks steps imports, in its order."""


@pytest.mark.parametrize("statement", ["import modelmill.models.base_model", FORKS], ids=["models", "forks"])
def test_models_are_imported_without_a_word(statement: str) -> None:
    pytest.importorskip("torchao")
    command = [sys.executable, "-c", f"{statement}; import sys; assert 'torchao' in sys.modules"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
