"""Exports the encoder of a model, or of a base model, as a trunk that the heads of many signals share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from modelmill.artifacts import MODEL_NAME_PATTERN, ModelRef
from modelmill.component import Component, Config, Inputs, Outputs, StepContext
from modelmill.compression.options import QUANTIZATION_EXTENSIONS, TrunkMethod
from modelmill.errors import ConfigError
from modelmill.steps.learning import base_state
from modelmill.system.resources import Resources
from modelmill.training.options import ImageOptions

_TOKENS = 128


class TrunkConfig(ImageOptions, Config):
    """Make a trunk: the encoder that many signals share, exported once. Its heads come from train_heads."""

    base_model: str | None = Field(
        None,
        description="Folder or Hugging Face id, as in fine_tune; empty: the encoder of the input model.",
    )
    max_tokens: int | None = Field(
        None, ge=8, le=8192, description="Tokens of a text that it reads; empty: as the input model, or 128."
    )
    method: TrunkMethod | None = Field(
        None,
        description="How it is quantised, as in quantize; none: fp32. Empty: int8_dynamic, for images none.",
    )
    states: bool = Field(
        False, description="Also give the features of each token, which heads with attention need."
    )
    registered_name: str | None = Field(
        None,
        pattern=MODEL_NAME_PATTERN,
        description="Name of the registered model to make it a version of; empty: it is only logged.",
    )


class TrunkInputs(Inputs):
    """A fine-tuned, distilled or adapted model whose encoder becomes the trunk; else a base model does."""

    model: ModelRef | None = None


class TrunkOutputs(Outputs):
    """The trunk."""

    trunk: ModelRef


def check(config: TrunkConfig) -> None:
    """Check that the base model can be exported as the configuration says, if it is on this machine."""
    from modelmill.models.base_model_folder import check_base_model

    if config.base_model and check_base_model(config.base_model, max_tokens=config.max_tokens) == "image":
        _check_images(config)


def _check_images(config: TrunkConfig) -> None:
    for name, value, why in (
        ("max_tokens", config.max_tokens, "an image has a size, and no tokens: set image_size"),
        ("states", config.states or None, "heads on images read features alone"),
        ("method", None if config.method == "none" else config.method, "it is exported as fp32"),
    ):
        if value is not None:
            raise ConfigError(
                f"{name} is not for a trunk that reads images: {why}", got=value, remedy=f"leave {name} empty"
            )


def run(config: TrunkConfig, inputs: TrunkInputs, context: StepContext) -> TrunkOutputs:
    """Export the encoder, log it as a model of the role ``trunk``, and register it if it has a name."""
    from modelmill.models.bundle import bundle_bytes
    from modelmill.registry.bundles import log_model
    from modelmill.registry.versions import register

    bundle = context.workdir / "bundle"
    difference = _export(config, inputs, bundle, context)
    metrics = {"export_difference": difference, "bytes": float(bundle_bytes(bundle))}
    context.log(f"trunk: {metrics['bytes'] / 1e6:.1f} MB; differs from PyTorch's by at most {difference:.1e}")
    trunk = log_model(bundle, role="trunk", context=context, parent=inputs.model, metrics=metrics)
    if config.registered_name:
        register(context.run.client, config.registered_name, trunk)
    return TrunkOutputs(trunk=trunk)


def _export(config: TrunkConfig, inputs: TrunkInputs, bundle: Path, context: StepContext) -> float:
    """Write the trunk's bundle, and return how far it is from PyTorch."""
    from modelmill.compression.trunk import make_image_trunk, make_trunk
    from modelmill.models.base_model import load_base_model
    from modelmill.models.base_model_folder import content_of_base
    from modelmill.models.bundle import BundleInfo
    from modelmill.models.classifier import load_classifier
    from modelmill.models.image_base import load_image_base
    from modelmill.registry.bundles import fetch_bundle

    encoder: Any
    if inputs.model is not None:
        folder = fetch_bundle(inputs.model, context.cache)
        info = BundleInfo.load(folder)
        tokenizer, text = folder / "tokenizer.json", info.text
        if info.format == "encoder":
            encoder = load_base_model(str(folder), max_tokens=info.max_tokens, dropout=0.0).encoder
        else:
            encoder = load_classifier(folder).encoder
        if info.content == "image":
            _check_images(config)
            return make_image_trunk(encoder.encoder, bundle, image=info.text)
        max_tokens = config.max_tokens or info.encoder_tokens or info.max_tokens
    elif content_of_base(str(config.base_model)) == "image":
        _check_images(config)
        images = load_image_base(
            str(config.base_model), early_layers=config.early_layers, size=config.image_size
        )
        return make_image_trunk(images, bundle, image="image")
    else:
        max_tokens = config.max_tokens or _TOKENS
        base = load_base_model(str(config.base_model), max_tokens=max_tokens, dropout=0.0)
        encoder, tokenizer, text = base.encoder, base.tokenizer, "text"
    return make_trunk(
        encoder,
        bundle,
        tokenizer=tokenizer,
        text=text,
        max_tokens=max_tokens,
        method=config.method or "int8_dynamic",
        states=config.states,
    )


trunk = Component(
    name="trunk",
    title="Trunk",
    group="Train",
    config=TrunkConfig,
    inputs=TrunkInputs,
    outputs=TrunkOutputs,
    run=run,
    extensions=QUANTIZATION_EXTENSIONS,
    outside_state=base_state,
    check=check,
    either=("base_model", "model"),
    resources=Resources(cpus=2, memory_gb=4),
)
