"""A model bundle: the folder of files that one model is, whatever runs it.

===================  ======================================================================
``modelmill.json``   :class:`BundleInfo`: format, label, classes, how the text is read
``tokenizer.json``   the tokenizer, as the ``tokenizers`` library reads it; or
``image.json``       how images are read, for models of images
``config.json``      architecture (``torch``, ``torchao``, ``encoder``), as ``transformers`` reads it
``model.safetensors``  weights (``torch``, ``torchao``, ``encoder``, ``static``)
``texts.npy``        keys of the texts that it has learned from (``encoder`` only)
``model.onnx``       graph and weights in one file (``onnx`` and ``trunk``)
``head.safetensors``  weights of a signal's head (``head`` only)
===================  ======================================================================

Nothing in it is pickled, and nothing in it is code.

An **encoder** is a base model that has read more texts: it answers nothing, and other models are made of it.

A **trunk** is an encoder that many signals share: it answers nothing by itself. A **head** answers one signal
from what its trunk makes of a text. It names the trunk by digest and has neither a tokenizer nor a graph of
its own: the trunk's bundle lies beside it, in a folder that is named after the digest.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from modelmill.artifacts import ContentKind, ModelFormat
from modelmill.datasets.options import LabelKind
from modelmill.errors import ModelError
from modelmill.models.limits import read_bounded
from modelmill.options import Record
from modelmill.system.digests import file_digest
from modelmill.tasks.base import Task
from modelmill.tasks.calibration import Calibration, FloatArray
from modelmill.tasks.kinds import task_of
from modelmill.tokens.contents import CONTENTS

INFO_FILE = "modelmill.json"
_FILES: dict[str, tuple[str, ...]] = {
    "torch": (INFO_FILE, "config.json", "model.safetensors"),
    "torchao": (INFO_FILE, "config.json", "model.safetensors"),
    "encoder": (INFO_FILE, "config.json", "model.safetensors", "texts.npy"),
    "onnx": (INFO_FILE, "model.onnx"),
    "trunk": (INFO_FILE, "model.onnx"),
    "head": (INFO_FILE, "head.safetensors"),
    "static": (INFO_FILE, "model.safetensors"),
}
"""Files of each format, beside the one by which it reads contents."""

HeadKind = Literal["linear", "mlp", "attention"]
"""What a head is: see :mod:`modelmill.models.heads`."""


class BundleInfo(Record):
    """What one has to know to use a bundle."""

    schema_version: Literal[1] = 1
    format: ModelFormat
    label: str = ""
    """Name of the signal: the label column that it answers; empty for a trunk."""
    classes: tuple[str, ...] = ()
    """Class of each logit; empty for a trunk and for numbers, which have one logit: the number."""
    target: LabelKind = "class"
    """One class a row, a set of classes a row, or a number."""
    calibration: Calibration | None = None
    """What makes probabilities of the logits; None: softmax, or the sigmoid for sets of classes."""
    content: ContentKind = "text"
    """What it reads."""
    text: str
    """Column that was read in training, as text or as image: the default when a table is scored."""
    max_tokens: int
    """Longer texts are cut, special tokens included. For images the numbers of each, which all have."""
    encoder_tokens: int | None = None
    """Tokens that the encoder reads of those; None: all."""
    lexical: bool = False
    """Whether a lexical head reads all tokens and is added to the encoder's logits."""
    device: Literal["cuda"] | None = None
    """What it has to run on; None: anything."""
    parameters: int
    """Number of weights of the model it was exported from, or of the model itself."""
    features: int | None = None
    """Features that a trunk makes of a text, or that a head reads; None for other formats."""
    early_features: int = 0
    """How many of a trunk's features, the last ones, measure early layers of an encoder of images."""
    states: bool = False
    """Whether a trunk also gives the features of each token."""
    head: HeadKind | None = None
    """What kind of head it is; None for other formats."""
    trunk: str | None = None
    """Digest of the trunk that a head stands on; None for other formats."""

    @property
    def task(self) -> Task:
        """The task of its label."""
        return task_of(self.target)

    @property
    def outputs(self) -> int:
        """Number of logits."""
        return self.task.outputs(self.classes)

    def probabilities(self, logits: FloatArray) -> FloatArray:
        """Return what logits say: a probability for each class, or the number itself.

        :param logits: ``(rows, outputs)``.
        :return: ``(rows, outputs)``.
        """
        return self.task.probabilities(logits, self.calibration)

    def answers(self, logits: FloatArray) -> tuple[list[Any], list[float]]:
        """Return answers and scores, see :meth:`modelmill.tasks.base.Task.answers`.

        :param logits: ``(rows, outputs)``.
        :return: of each row.
        """
        return self.task.answers(logits, classes=self.classes, calibration=self.calibration)

    def save(self, folder: Path) -> None:
        """Write ``modelmill.json``."""
        (folder / INFO_FILE).write_text(self.model_dump_json(indent=2))

    @classmethod
    def load(cls, folder: Path) -> BundleInfo:
        """Read ``modelmill.json``, and check that the bundle has the files of its format, and no others.

        :param folder: the bundle.
        :return: what it says.
        :raises ModelError: if it is no bundle.
        """
        try:
            info = cls.model_validate_json(read_bounded(folder / INFO_FILE))
        except (OSError, ValidationError) as error:
            raise ModelError(
                f"a model bundle has a valid {INFO_FILE} ({type(error).__name__})",
                got=str(folder),
                remedy="make the model again with modelmill",
            ) from error
        present = {path.name for path in folder.iterdir()}
        wanted = {*_FILES[info.format], *([] if info.format == "head" else [CONTENTS[info.content].file])}
        if present != wanted:
            raise ModelError(
                f"a model bundle of format {info.format} has exactly {', '.join(sorted(wanted))}",
                got=", ".join(sorted(present)),
                remedy="make the model again with modelmill",
            )
        return info


def trunk_folder(folder: Path, info: BundleInfo) -> Path:
    """Return the bundle of the trunk that a bundle needs to answer: beside it, named after its digest.

    :param folder: a bundle.
    :param info: what it says of itself.
    :return: the trunk's bundle; the bundle itself where it is no head.
    :raises ModelError: if the trunk is not there.
    """
    if info.trunk is None:
        return folder
    place = folder.parent / info.trunk
    if not place.is_dir():
        raise ModelError(
            "a head is loaded with the trunk that it stands on",
            got=f"no folder {place}",
            remedy="fetch it with modelmill.registry.bundles.fetch_bundle, which brings the trunk as well",
        )
    return place


def bundle_digest(folder: Path) -> str:
    """Return the SHA-256 over the names and the SHA-256 of the bundle's files, in the order of the names.

    :param folder: the bundle.
    :return: 64 hexadecimal digits.
    :raises ModelError: if it is no folder, is empty, or has anything in it but plain files.
    """
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    strange = [path for path in paths if path.is_symlink() or not path.is_file()]
    if strange or not paths:
        raise ModelError(
            "a model bundle is a folder of plain files, without links and folders",
            got=str(strange[0]) if strange else f"no files in {folder}",
            remedy="make the model again, or restore the files",
        )
    total = hashlib.sha256()
    for path in paths:
        # A name need not be text.
        total.update(f"{path.name}\0{file_digest(path)}\n".encode(errors="surrogateescape"))
    return total.hexdigest()


def bundle_bytes(folder: Path) -> int:
    """Return the size of the bundle's model file (weights and graph, without the tokenizer), in bytes."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.suffix in (".onnx", ".safetensors"))
