"""A static student reads texts: a signal whose model reads images has none, and the others have theirs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from modelmill.errors import ConfigError
from modelmill.models.bundle import BundleInfo
from modelmill.rules.cascade.static_students import _lesson
from modelmill.signals.model_config import ModelSignal
from modelmill.signals.pinned_models import PinnedModel


def test_a_signal_of_images_has_no_student(tmp_path: Path) -> None:
    BundleInfo(format="onnx", content="image", text="photo", max_tokens=12, parameters=1).save(tmp_path)
    for name in ("image.json", "model.onnx"):
        (tmp_path / name).touch()
    signal = ModelSignal(column="photo", model=str(tmp_path), label="noise")
    said: Any = SimpleNamespace(signals={"noisy": None})
    with pytest.raises(ConfigError, match="reads texts; got 'noisy, whose model reads images'; leave it out"):
        _lesson("noisy", signal, said, {str(tmp_path): PinnedModel(folder=str(tmp_path))})
