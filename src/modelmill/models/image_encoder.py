"""An image encoder as a module: from pixels to features, standardisation included.

Its features are the mean over all positions of the last layer and, for some early layers, mean and spread
over all positions of each channel. What an image *shows* is in the last layer; how it *looks* (sharp, noisy,
bordered, dark) is gone there, and is found in the early ones.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from modelmill.models.image_stages import stage_list
from modelmill.tokens.images import CHANNELS, ImageInput

EARLY_LAYERS = "modelmill_early_layers"
"""Key of the encoder's configuration in a bundle: layers whose channels are measured."""
_LEAST_VARIANCE = 1e-6


class ImageEncoder(nn.Module):
    """An encoder of ``transformers``, and what is taken of its layers.

    :param model: takes ``pixel_values``, ``(batch, 3, height, width)``.
    :param settings: the size of images, and by what their pixels are standardised.
    :param early_layers: layers from the first on whose channels are measured; of all but the last.
    """

    mean: torch.Tensor
    spread: torch.Tensor

    def __init__(self, model: Any, settings: ImageInput, *, early_layers: int) -> None:
        super().__init__()
        self.model = model
        self.settings = settings
        self.early_layers = early_layers
        shape = (1, CHANNELS, 1, 1)
        self.register_buffer("mean", torch.tensor(settings.mean).view(shape), persistent=False)
        self.register_buffer("spread", torch.tensor(settings.spread).view(shape), persistent=False)
        was = self.model.training
        with torch.inference_mode():
            self.model.eval()
            parts = [part.shape[1] for part in self._parts(self.example(1))]
        self.features = sum(parts)
        self.early_features = sum(parts[1:])
        self.model.train(was)

    @property
    def config(self) -> Any:
        """The encoder's configuration."""
        return self.model.config

    def example(self, images: int) -> torch.Tensor:
        """Return black images, ``(images, 3, height, width)``."""
        return torch.zeros((images, CHANNELS, self.settings.height, self.settings.width), dtype=torch.uint8)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the features of images.

        :param pixels: from 0 to 255, ``(batch, 3, height, width)``.
        :return: ``(batch, features)``; the last :attr:`early_features` of them are of early layers.
        """
        return torch.cat(self._parts(pixels), dim=1)

    def _parts(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        values = (pixels.to(self.mean.dtype) / 255 - self.mean) / self.spread
        found = self.model(pixel_values=values, output_hidden_states=self.early_layers > 0)
        last = found.last_hidden_state
        parts = [last.mean(_positions(last))]
        early = found.hidden_states[:-1] if self.early_layers else ()
        for layer in early[: self.early_layers]:
            axes = _positions(layer)
            spread = layer.var(axes, unbiased=False).clamp(min=_LEAST_VARIANCE).sqrt()
            parts += [layer.mean(axes), spread]
        return parts


def _positions(layer: torch.Tensor) -> tuple[int, ...]:
    """Return the axes of the positions: of maps ``(batch, channels, height, width)``, or of patches
    ``(batch, patches, channels)``.
    """
    return (2, 3) if layer.ndim == 4 else (1,)


class RowEncoder(nn.Module):
    """An image encoder that reads rows of numbers, as encoders of texts read rows of ids: for training.

    An image is one position with all its features, so the mean over positions is the features themselves.
    Layers of batch normalisation keep the statistics that they have: those of small batches of other images
    would be worse, and a training that is resumed must end in the same bits.

    :param encoder: the encoder. Its configuration gets :data:`EARLY_LAYERS`.
    """

    def __init__(self, encoder: ImageEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.features = encoder.features
        setattr(encoder.config, EARLY_LAYERS, encoder.early_layers)
        # Tuples: their modules are parts of the encoder already.
        self.stem, self.stages = _stem_and_stages(encoder.model)

    @property
    def config(self) -> Any:
        """The encoder's configuration."""
        return self.encoder.config

    def get_input_embeddings(self) -> None:
        """Return the embeddings, as encoders of texts do: there are none."""

    def train(self, mode: bool = True) -> RowEncoder:
        """Change the mode of all layers but those of batch normalisation."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):  # noqa: SLF001 (the base of all of them)
                module.eval()
        return self

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor]:  # noqa: ARG002 (as encoders of texts)
        """Return the features of images.

        :param input_ids: pixels, red before green before blue, ``(batch, 3 * height * width)``.
        :param attention_mask: not read: images of one encoder have one size.
        :return: ``(batch, 1, features)``.
        """
        settings = self.encoder.settings
        pixels = input_ids.reshape(-1, CHANNELS, settings.height, settings.width)
        return (self.encoder(pixels)[:, None, :],)


def _stem_and_stages(model: nn.Module) -> tuple[tuple[nn.Module, ...], tuple[nn.Module, ...]]:
    """Return what stands before an encoder's list of stages or layers, and that list; both are empty if
    there is none.
    """
    name = stage_list(model)
    if name is None:
        return (), ()
    stem: list[nn.Module] = []
    at = model
    for step in name.split("."):
        for child_name, child in at.named_children():
            if child_name == step:
                break
            stem.append(child)
        at = at.get_submodule(step)
    return tuple(stem), tuple(at.children())
