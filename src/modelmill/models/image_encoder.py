"""An image encoder as a module: from pixels to features, standardisation included.

Its features are the mean over all positions of the last layer and, for some early layers, mean and spread
over all positions of each channel. What an image *shows* is in the last layer; how it *looks* (sharp, noisy,
bordered, dark) is gone there, and is found in the early ones.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from modelmill.tokens.images import CHANNELS, ImageInput

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
