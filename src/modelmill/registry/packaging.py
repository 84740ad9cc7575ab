"""What MLflow loads a model with: the files around a bundle."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import re
import shutil
import warnings
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from modelmill.artifacts import ContentKind, ModelFormat
from modelmill.models.bundle import BundleInfo
from modelmill.registry.signing import MODEL_SIGNATURE
from modelmill.tasks.base import AnswerType
from modelmill.tokens.contents import CONTENTS
from modelmill.tokens.images import black_image
from modelmill.version import __version__

if TYPE_CHECKING:
    from mlflow.models import Model, ModelSignature

BUNDLE_PATH = "artifacts/bundle"
APART = ("registered_model_meta", MODEL_SIGNATURE)
"""Files that are no part of a stored model: MLflow adds one to a download, and signatures can be renewed."""

_DESCRIPTION = "MLmodel"
_ID_LINE = re.compile(rb"^model_id: (?:null|m-[0-9a-f]{32})\n", re.MULTILINE)
"""Line of the description that names the logged model; no other line end of YAML's has room in it."""
_REQUIREMENTS: Mapping[ModelFormat, tuple[str, ...]] = {
    "onnx": ("onnxruntime",),
    "torch": ("torch", "transformers"),
    "torchao": ("torch", "torchao", "transformers"),
    "trunk": ("onnxruntime",),
    "encoder": ("torch", "transformers"),
    "head": ("onnxruntime", "safetensors"),
    "static": ("nanotoken", "pyarrow", "safetensors", "scipy"),
}

_EXAMPLES: Mapping[ContentKind, Callable[[], str]] = {
    "text": lambda: "a text",
    "image": lambda: base64.b64encode(black_image()).decode(),
}


class Packages:
    """Writes bundles as MLflow ``python_function`` models.

    MLflow checks every requirement each time it saves a model. So MLflow saves one model of each format as a
    template; other models replace the template's bundle and what its description says of the bundle.

    :param scratch: an empty folder.
    """

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._templates: dict[tuple[str, ...], tuple[Path, Model]] = {}

    def write(self, bundle: Path, info: BundleInfo, *, settings: Mapping[str, Any], run_id: str) -> Path:
        """Write a model.

        :param bundle: the bundle.
        :param info: its description.
        :param settings: what the model's script is given.
        :param run_id: of the run that made it.
        :return: its folder, below the scratch folder, until the next call.
        """
        from mlflow.models import Model
        from mlflow.pyfunc import FLAVOR_NAME

        kind = (info.format, info.content, info.text, info.target)
        if kind not in self._templates:
            self._templates[kind] = self._save(bundle, info)
        target, saved = self._templates[kind]
        (target / MODEL_SIGNATURE).unlink(missing_ok=True)
        shutil.rmtree((target / BUNDLE_PATH).parent)
        shutil.copytree(bundle, target / BUNDLE_PATH)
        config = {**settings, "typed": True}
        flavors = {
            **saved.flavors,
            FLAVOR_NAME: {**saved.flavors[FLAVOR_NAME], "config": config},
        }
        model = Model(run_id=run_id, signature=saved.signature, flavors=flavors)
        model.metadata = {"label": info.label, "classes": list(info.classes)}
        model.model_size_bytes = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
        # As MLflow writes it, in a tenth of the time.
        text = yaml.dump(model.to_dict(), Dumper=yaml.CSafeDumper, default_flow_style=False)
        (target / _DESCRIPTION).write_text(text)
        return target

    def _save(self, bundle: Path, info: BundleInfo) -> tuple[Path, Model]:
        from mlflow.models import Model
        from mlflow.pyfunc import save_model

        target = self._scratch / f"template-{len(self._templates)}"
        named = self._scratch / "bundle"  # MLflow names the artifact's folder after the source's
        shutil.copytree(bundle, named)
        with warnings.catch_warnings():
            # MLflow asks for type hints of its own, and would look for requirements in a subprocess.
            warnings.simplefilter("ignore")
            save_model(
                path=str(target),
                python_model=str(Path(__file__).with_name("pyfunc_script.py")),
                artifacts={"bundle": str(named)},
                model_config={},
                signature=_signature(info),
                pip_requirements=_requirements(info),
            )
        shutil.rmtree(named)
        example = {"columns": [info.text], "data": [[_EXAMPLES[info.content]()]]}
        (target / "input_example.json").write_text(json.dumps(example))
        return target, Model.load(str(target / _DESCRIPTION))


def package_digest(folder: Path) -> str:
    """Return the SHA-256 over the paths and contents of a stored model's files around the bundle.

    MLflow's id of the model, in its description, does not count: the digest is known before the id is.

    :param folder: the model as MLflow stores it.
    :return: 64 hexadecimal digits.
    """
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not name.startswith(f"{BUNDLE_PATH}/") and name not in APART:
            content = path.read_bytes()
            if name == _DESCRIPTION:
                content = _ID_LINE.sub(b"", content)
            total.update(f"{name}\0{hashlib.sha256(content).hexdigest()}\n".encode())
    return total.hexdigest()


def name_model(folder: Path, model_id: str) -> None:
    """Write MLflow's id of a model into its description, which has had none.

    :param folder: the model as MLflow stores it.
    :param model_id: the logged model.
    """
    path = folder / _DESCRIPTION
    path.write_bytes(_ID_LINE.sub(f"model_id: {model_id}\n".encode(), path.read_bytes(), count=1))


def _signature(info: BundleInfo) -> ModelSignature:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import AnyType, Array

    # Any, because MLflow's server makes the text "None" of a null in a column of strings. Of a plain list
    # MLflow makes column 0, which has to come first.
    names: list[Any] = list(dict.fromkeys([0, info.text, CONTENTS[info.content].common]))
    any_type = AnyType()  # type: ignore[no-untyped-call] # MLflow has no types here
    types: dict[AnswerType, DataType | Array] = {
        "string": DataType.string,
        "array<string>": Array(DataType.string),
        "double": DataType.double,
    }
    prediction = ColSpec(types[info.task.answer_type], "prediction", required=False)
    return ModelSignature(
        inputs=Schema([ColSpec(any_type, name, required=False) for name in names]),
        outputs=Schema([prediction, ColSpec("double", "score", required=False)]),
    )


def _requirements(info: BundleInfo) -> list[str]:
    reads = {"text": "tokenizers", "image": "pillow"}[info.content]
    pinned = ("mlflow", "pandas", "numpy", reads, *_REQUIREMENTS[info.format])
    return [f"modelmill=={__version__}", *(f"{name}=={_release(name)}" for name in pinned)]


@functools.cache
def _release(name: str) -> str:
    """Return a distribution's version without its local part: a registry serves none."""
    return metadata.version(name).partition("+")[0]
