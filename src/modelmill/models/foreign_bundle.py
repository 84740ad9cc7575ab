"""Makes a bundle of an ONNX file from elsewhere."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from modelmill.errors import ModelError
from modelmill.models.bundle import BundleInfo
from modelmill.models.foreign_graph import wrap
from modelmill.models.foreign_onnx import first_answers, read_foreign
from modelmill.models.foreign_options import ForeignModelOptions

_SUM = 1e-3
"""How far the sum of probabilities may be from 1: in 16 bits it is not exact."""


@dataclass(frozen=True)
class ForeignModel:
    """A model that was imported."""

    parameters: int
    size: tuple[int, int]
    """Height and width of the image that it reads, before the middle is taken."""


def import_foreign(path: Path, folder: Path, options: ForeignModelOptions, *, image: str) -> ForeignModel:
    """Make a bundle of a classifier of images in ONNX.

    :param path: the file; it is only read.
    :param folder: where to write the bundle; replaced if it exists.
    :param options: how it reads images, and what its output is.
    :param image: column that is read when a table is scored.
    :return: facts of the model.
    :raises ModelError: if it is refused (see :func:`~modelmill.models.foreign_onnx.read_foreign`), does not
        read and answer as the options say, or does not run.
    """
    import onnx

    model = read_foreign(path)
    weights = [one for one in model.graph.initializer if one.data_type != onnx.TensorProto.INT64]  # indices
    parameters = sum(int(np.prod(one.dims)) for one in weights)
    settings = wrap(model, options)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    onnx.save(model, str(folder / "model.onnx"))
    _check_answers(first_answers(folder / "model.onnx"), options, path)
    settings.save(folder)
    BundleInfo(
        format="onnx",
        label=options.label,
        classes=options.classes,
        target=options.target,
        content="image",
        text=image,
        max_tokens=settings.numbers,
        parameters=parameters,
    ).save(folder)
    return ForeignModel(parameters, (settings.height, settings.width))


def _check_answers(answers: list[list[float]], options: ForeignModelOptions, path: Path) -> None:
    wanted = len(options.classes) or 1
    if any(len(one) != wanted for one in answers):
        raise ModelError(
            "the output has a number for each class, or one number",
            got=f"{len(answers[0])} numbers for {wanted} in {path}",
            remedy="name its classes in their order, or another output",
        )
    found = np.array(answers, np.float64)
    if not np.isfinite(found).all():
        raise ModelError(
            "an imported model answers a black, a white and a noisy image with finite numbers",
            got=str(path),
            remedy="check divide_by, mean and std",
        )
    if options.target != "class":
        return
    # What was a probability is its logarithm here.
    shares = np.exp(found) if options.answers == "probabilities" else found
    are_shares = bool((shares >= 0).all() and (np.abs(shares.sum(axis=1) - 1) < _SUM).all())
    if are_shares != (options.answers == "probabilities"):
        raise ModelError(
            f"answers says what the output is: {options.answers}",
            got=f"numbers that {'are' if are_shares else 'are no'} shares of 1 in {path}",
            remedy=f"set answers to {'probabilities' if are_shares else 'logits'}",
        )
