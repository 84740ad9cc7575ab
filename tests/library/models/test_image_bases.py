"""Image encoders from their folders: what they read, what a trunk makes of them, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modelmill.compression.trunk import make_image_trunk, random_images
from modelmill.errors import ConfigError, ModelError
from modelmill.models.base_model_folder import check_base_model
from modelmill.models.bundle import BundleInfo
from modelmill.models.classifier import (
    Classifier,
    all_logits,
    load_classifier,
    parameter_count,
    save_classifier,
)
from modelmill.models.encoder import depth
from modelmill.models.image_base import load_image_base
from modelmill.models.image_encoder import RowEncoder
from modelmill.models.trunk import Trunk
from modelmill.steps import trunk as trunk_step
from modelmill.training.image_student import image_student
from modelmill.training.options import StudentOptions

PREPROCESSOR = {"size": {"height": 16, "width": 16}, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}


def resnet() -> Any:
    from transformers import ResNetConfig, ResNetModel

    return ResNetModel(
        ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic")
    )


def vit() -> Any:
    from transformers import ViTConfig, ViTModel

    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    return ViTModel(ViTConfig(image_size=16, patch_size=4, **size), add_pooling_layer=False)


def convnext() -> Any:
    from transformers import ConvNextConfig, ConvNextModel

    return ConvNextModel(ConvNextConfig(hidden_sizes=[8, 12], depths=[1, 1], num_stages=2, patch_size=4))


def timm_wrapper() -> Any:
    pytest.importorskip("timm")
    from transformers import TimmWrapperConfig, TimmWrapperModel

    said = {"input_size": [3, 32, 32], "mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic"}
    return TimmWrapperModel(
        TimmWrapperConfig(architecture="test_efficientnet", do_pooling=True, pretrained_cfg=said)
    )


# With its features: of the last layer, and of the two first ones mean and spread of each channel.
CASES: dict[str, tuple[Callable[[], Any], int]] = {
    "resnet": (resnet, 12 + 2 * (8 + 8)),
    "vit": (vit, 16 + 2 * (16 + 16)),
    "convnext": (convnext, 12 + 2 * (8 + 8)),
    "timm_wrapper": (timm_wrapper, 256 + 2 * (16 + 24)),
}


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    def save(kind: str, **changes: Any) -> Path:
        torch.manual_seed(0)
        folder = tmp_path / kind
        CASES[kind][0]().save_pretrained(folder)
        if kind != "timm_wrapper":
            (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **changes}))
        return folder

    return save


@pytest.mark.parametrize("kind", CASES)
def test_a_trunk_answers_as_pytorch_does(kind: str, saved: Callable[..., Path], tmp_path: Path) -> None:
    folder = saved(kind)
    assert check_base_model(str(folder)) == "image"
    encoder = load_image_base(str(folder), early_layers=2)
    assert encoder.features == CASES[kind][1]
    assert make_image_trunk(encoder, tmp_path / "trunk", image="photo") < 1e-3
    info = BundleInfo.load(tmp_path / "trunk")
    assert (info.content, info.text, info.features) == ("image", "photo", encoder.features)
    assert info.max_tokens == encoder.settings.numbers == 3 * encoder.settings.height**2
    assert info.parameters == sum(one.numel() for one in encoder.model.parameters())
    tokens = random_images(encoder.settings, rows=3)
    found = np.zeros((3, encoder.features), np.float32)

    def use(row: int, values: Any) -> None:
        found[row] = values[0]

    Trunk(tmp_path / "trunk", threads=2).session.run(tokens, ["features"], use)
    pixels = torch.from_numpy(np.stack([tokens.raw(row) for row in range(3)])).view(
        3, *encoder.example(1).shape[1:]
    )
    with torch.inference_mode():
        expected = encoder(pixels).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert np.ptp(expected, axis=0).max() > 0.01  # images differ


@pytest.mark.parametrize(
    ("kind", "stages"), [("resnet", 2), ("vit", 2), ("convnext", 2), ("timm_wrapper", 5)]
)
def test_a_student_starts_as_the_first_stages_of_its_teacher(
    kind: str, stages: int, saved: Callable[..., Path], tmp_path: Path
) -> None:
    large = load_image_base(str(saved(kind)), early_layers=2)
    teacher = Classifier(RowEncoder(large), classes=3).eval()
    kept = stages - 1
    assert depth(teacher.encoder) == stages
    small = image_student(teacher, StudentOptions(layers=kept))
    assert depth(RowEncoder(small)) == kept
    assert parameter_count(small) < parameter_count(large)
    pixels = torch.randint(0, 256, large.example(2).shape, dtype=torch.uint8)
    with torch.inference_mode():
        all_of_it = large.model(
            pixel_values=(pixels / 255 - large.mean) / large.spread, output_hidden_states=True
        )
        cut = small.model(pixel_values=(pixels / 255 - large.mean) / large.spread, output_hidden_states=True)
    for found, wanted in zip(cut.hidden_states, all_of_it.hidden_states, strict=False):
        torch.testing.assert_close(found, wanted)
    # What is said of it is enough to build it again.
    large.settings.save(tmp_path)
    model = Classifier(RowEncoder(small), classes=3).eval()
    info = BundleInfo(
        format="torch", content="image", classes=tuple("abc"), text="photo", max_tokens=1, parameters=1
    )
    save_classifier(model, tmp_path / "bundle", tokenizer=tmp_path / "image.json", info=info)
    tokens = random_images(large.settings, rows=2)
    again = load_classifier(tmp_path / "bundle")
    assert depth(again.encoder) == kept
    np.testing.assert_array_equal(all_logits(again, tokens), all_logits(model, tokens))


def test_features_are_mean_and_spread_of_what_the_layers_give(saved: Callable[..., Path]) -> None:
    encoder = load_image_base(str(saved("resnet")), early_layers=1)
    pixels = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    with torch.inference_mode():
        found = encoder(pixels)
        values = (pixels / 255 - 0.5) / 0.25
        inner = encoder.model(pixel_values=values, output_hidden_states=True)
    first, last = inner.hidden_states[0], inner.last_hidden_state
    expected = [last.mean((2, 3)), first.mean((2, 3)), first.std((2, 3), unbiased=False).clamp(min=1e-3)]
    torch.testing.assert_close(found, torch.cat(expected, 1), atol=1e-5, rtol=1e-4)


def test_an_encoder_of_convolutions_reads_another_size(saved: Callable[..., Path]) -> None:
    encoder = load_image_base(str(saved("resnet")), early_layers=0, size=24)
    assert (encoder.settings.height, encoder.features) == (24, 12)
    with pytest.raises(ModelError, match="patches for images of 16 x 16 pixels; got '24 x 24'"):
        load_image_base(str(saved("vit")), early_layers=0, size=24)


def test_what_could_load_code_is_refused(saved: Callable[..., Path]) -> None:
    for changes, said in (
        ({"architecture": "hf-hub:someone/model"}, "the name of one of timm's models; got 'hf-hub"),
        ({"model_args": {"act_layer": "x"}}, "has no model_args"),
        ({"auto_map": {"AutoModel": "a.B"}}, "must not bring or choose code"),
    ):
        folder = saved("timm_wrapper", **changes)
        for look in (check_base_model, lambda name: load_image_base(name, early_layers=0)):
            with pytest.raises(ModelError, match=said):
                look(str(folder))


def test_an_encoder_says_how_it_reads_images(saved: Callable[..., Path]) -> None:
    folder = saved("resnet")
    for content, said in (
        ({"image_mean": [0.5] * 3, "image_std": [0.5] * 3}, "KeyError: 'size'"),
        ({**PREPROCESSOR, "rescale_factor": 1}, "rescale_factor is 1/255; got 1"),
        ({**PREPROCESSOR, "size": {"height": 16, "width": 5000}}, "less than or equal to 2048"),
    ):
        (folder / "preprocessor_config.json").write_text(json.dumps(content))
        with pytest.raises(ModelError, match=said):
            load_image_base(str(folder), early_layers=0)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(ModelError, match=r"write preprocessor_config\.json with size, image_mean"):
        load_image_base(str(folder), early_layers=0)


@pytest.mark.parametrize("option", [{"max_tokens": 16}, {"states": True}, {"method": "int8_dynamic"}])
def test_options_of_texts_are_refused_before_anything_runs(
    option: dict[str, Any], saved: Callable[..., Path]
) -> None:
    config = trunk_step.TrunkConfig(base_model=str(saved("resnet")), **option)
    with pytest.raises(ConfigError, match=f"{next(iter(option))} is not for a trunk that reads images"):
        trunk_step.trunk.check(config)
