"""What a training loop needs of a model: an encoder, and a head on it."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import PretrainedConfig


class TrainableModel(nn.Module):
    """An encoder and a head; ``forward`` takes ids and mask, and gives one row of numbers for each text."""

    encoder: Any
    """A transformers encoder without a head, or a :class:`~modelmill.models.image_encoder.RowEncoder`."""
    head: nn.Module
    """What stands on it, trained at a rate of its own."""
    shares_embeddings: bool = False
    """Whether the head reads the table of embeddings too, so that its gradient is never sparse."""

    @property
    def config(self) -> PretrainedConfig:
        """The encoder's configuration."""
        config: PretrainedConfig = self.encoder.config
        return config
