"""A model bundle: the folder of files that one model is, whatever runs it.

===================  ======================================================================
``modelmill.json``   :class:`BundleInfo`: format, label, classes, how the text is read
``tokenizer.json``   the tokenizer, as the ``tokenizers`` library reads it
``config.json``      architecture (``torch`` only), as ``transformers`` reads it
``model.safetensors``  weights (``torch`` only)
``model.onnx``       graph and weights in one file (``onnx`` only)
===================  ======================================================================

Nothing in it is pickled, and nothing in it is code.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from modelmill.artifacts import ModelFormat
from modelmill.errors import ModelError

INFO_FILE = "modelmill.json"
_FILES: dict[str, tuple[str, ...]] = {
    "torch": (INFO_FILE, "tokenizer.json", "config.json", "model.safetensors"),
    "onnx": (INFO_FILE, "tokenizer.json", "model.onnx"),
}


class BundleInfo(BaseModel):
    """What one has to know to use a bundle."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    format: ModelFormat
    label: str
    """Name of the signal: the label column that it answers."""
    classes: tuple[str, ...]
    """Class of each logit."""
    text: str
    """Column that was read as text in training: the default when a table is scored."""
    max_tokens: int
    """Longer texts are cut, special tokens included."""
    encoder_tokens: int | None = None
    """Tokens that the encoder reads of those; None: all."""
    lexical: bool = False
    """Whether a lexical head reads all tokens and is added to the encoder's logits."""
    parameters: int
    """Number of weights of the model it was exported from, or of the model itself."""

    def save(self, folder: Path) -> None:
        """Write ``modelmill.json``.

        :param folder: the bundle.
        """
        (folder / INFO_FILE).write_text(self.model_dump_json(indent=2))

    @classmethod
    def load(cls, folder: Path) -> BundleInfo:
        """Read ``modelmill.json``, and check that the bundle has the files of its format, and no others.

        :param folder: the bundle.
        :return: what it says.
        :raises ModelError: if it is no bundle.
        """
        try:
            info = cls.model_validate_json((folder / INFO_FILE).read_text())
        except (OSError, ValidationError) as error:
            raise ModelError(
                f"a model bundle has a valid {INFO_FILE} ({type(error).__name__})",
                got=str(folder),
                remedy="make the model again with modelmill",
            ) from error
        present = {path.name for path in folder.iterdir()}
        wanted = set(_FILES[info.format])
        if present != wanted:
            raise ModelError(
                f"a model bundle of format {info.format} has exactly {', '.join(sorted(wanted))}",
                got=", ".join(sorted(present)),
                remedy="make the model again with modelmill",
            )
        return info


def bundle_digest(folder: Path) -> str:
    """Return the SHA-256 over the names and the SHA-256 of the bundle's files, in the order of the names.

    :param folder: the bundle.
    :return: 64 hexadecimal digits.
    """
    total = hashlib.sha256()
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        with path.open("rb") as file:
            total.update(f"{path.name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()


def bundle_bytes(folder: Path) -> int:
    """Return the size of the bundle's model file (weights and graph, without the tokenizer), in bytes.

    :param folder: the bundle.
    :return: the size.
    """
    return sum(path.stat().st_size for path in folder.iterdir() if path.suffix in (".onnx", ".safetensors"))
