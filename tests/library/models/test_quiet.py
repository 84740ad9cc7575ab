"""What a step's log begins with."""

from __future__ import annotations

import subprocess
import sys

import pytest


def test_models_are_imported_without_a_word() -> None:
    pytest.importorskip("torchao")
    command = [
        sys.executable,
        "-c",
        "import modelmill.models.base_model, sys; assert 'torchao' in sys.modules",
    ]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
