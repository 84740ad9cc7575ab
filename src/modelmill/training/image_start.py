"""What a training on images starts from."""

from __future__ import annotations

from modelmill.models.base_model import BaseModel
from modelmill.models.image_encoder import ImageEncoder, RowEncoder
from modelmill.tokens.images import IMAGE_FILE
from modelmill.workspace import Workspace


def image_start(encoder: ImageEncoder, workspace: Workspace) -> BaseModel:
    """Return an image encoder as what a training starts from.

    :param encoder: the encoder.
    :param workspace: its work directory gets the folder ``reader`` with ``image.json``.
    :return: the encoder that reads rows of numbers, and the path of that file.
    """
    folder = workspace.workdir / "reader"
    folder.mkdir(parents=True, exist_ok=True)
    encoder.settings.save(folder)
    return BaseModel(RowEncoder(encoder), folder / IMAGE_FILE)
