"""Many images at once: only the pixels of some of them are in memory."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modelmill.models import scorer, scorers
from modelmill.models.bundle import BundleInfo
from modelmill.signals import joint_models
from modelmill.tasks.calibration import FloatArray
from modelmill.tokens.contents import Content
from modelmill.tokens.images import ImageInput, ImageReader
from modelmill.tokens.token_ids import Tokens

READ = ImageInput(height=2, width=2, mean=(0.5, 0.5, 0.5), spread=(0.5, 0.5, 0.5))


class Brightness(scorer.Scorer):
    """Says how bright an image is, and how many it got at a time."""

    def __init__(self) -> None:
        info = BundleInfo(
            format="onnx", target="number", content="image", text="i", max_tokens=12, parameters=0
        )
        super().__init__(info, ImageReader(READ))
        self.got: list[int] = []

    def score(self, tokens: Tokens) -> FloatArray:
        self.got.append(len(tokens))
        return np.array([[tokens.raw(row).mean()] for row in range(len(tokens))]).reshape(-1, 1)


def lights(*values: int) -> list[Content]:
    images: list[Content] = []
    for light in values:
        file = io.BytesIO()
        Image.new("RGB", (2, 2), (light, light, light)).save(file, "PNG")
        images.append(file.getvalue())
    return images


def test_images_are_decoded_some_at_a_time_and_answered_in_their_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scorer, "IMAGES_AT_ONCE", 3)
    model = Brightness()
    assert model.logits(lights(0, 10, 20, 30, 40, 50, 60)).ravel().tolist() == [0, 10, 20, 30, 40, 50, 60]
    assert model.got == [3, 3, 1]
    assert model.logits([]).shape == (0, 1)


def test_so_are_those_of_a_rule_sets_models_and_equal_ones_are_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joint_models, "IMAGES_AT_ONCE", 3)
    model = Brightness()
    monkeypatch.setattr(scorers, "load_scorer", lambda _folder: model)
    model.info.save(tmp_path)
    READ.save(tmp_path)
    (tmp_path / "model.onnx").touch()
    joint = joint_models.JointModels({"d": tmp_path})
    found = joint.logits(lights(0, 10, 20, 10, 30, 40, 0, 50))
    assert found["d"].ravel().tolist() == [0, 10, 20, 10, 30, 40, 0, 50]
    assert model.got == [3, 2, 1]
