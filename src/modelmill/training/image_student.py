"""A student that reads images: the first stages of its teacher, or an encoder of its own."""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig

from modelmill.errors import ConfigError, ModelError
from modelmill.models.classifier import Classifier
from modelmill.models.encoder import build_encoder, depth
from modelmill.models.image_base import load_image_base
from modelmill.models.image_encoder import ImageEncoder
from modelmill.models.image_stages import fewer_stages
from modelmill.training.options import SoftLabels, StudentOptions


def image_student(teacher: Classifier, options: StudentOptions) -> ImageEncoder:
    """Return the encoder that a student of images starts from, with pretrained or learned weights.

    :param teacher: the teacher; it is not changed.
    :param options: the student's stages, or the encoder that it starts from.
    :return: the encoder. It reads images of the teacher's size, and measures as many early layers.
    :raises ConfigError: if the student should learn what images do not have.
    :raises ModelError: if the teacher has fewer stages, or the encoder cannot be loaded.
    """
    if not isinstance(options.objective, SoftLabels):
        raise ConfigError(
            "a student of images learns its teacher's answers alone: relations are between tokens",
            got=options.objective.kind,
            remedy="leave objective empty",
        )
    large: ImageEncoder = teacher.encoder.encoder
    settings = large.settings
    if options.student is not None:
        size = settings.height if settings.height == settings.width else None
        return load_image_base(options.student, early_layers=large.early_layers, size=size)
    most = depth(teacher.encoder)
    if options.layers > most:
        raise ModelError(
            f"a student cannot have more stages than its teacher, {most}",
            got=options.layers,
            remedy=f"set layers to at most {most}, or name an encoder under student",
        )
    small: Any = _cut(large.model, options.layers)
    return ImageEncoder(small, settings, early_layers=large.early_layers).eval()


def _cut(model: Any, stages: int) -> Any:
    """Return a copy of an encoder's first stages."""
    content = fewer_stages(model.config.to_dict(), stages)
    small = build_encoder(AutoConfig.for_model(content.pop("model_type"), **content))
    weights = model.state_dict()
    # What stands behind the last stage has its channels, and starts anew where they differ.
    taken = {
        name: weights[name] if weights[name].shape == value.shape else value
        for name, value in small.state_dict().items()
    }
    small.load_state_dict(taken)
    return small
