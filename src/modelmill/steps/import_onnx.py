"""Make a model of an ONNX file from elsewhere."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from modelmill.artifacts import DatasetRef, ModelRef, SignalsRef
from modelmill.component import Component, Config, Inputs, Outputs, StepContext
from modelmill.models.foreign_options import ForeignModelOptions
from modelmill.settings import Settings
from modelmill.system.resources import Resources


class ImportOnnxConfig(ForeignModelOptions, Config):
    """Make a model of an ONNX file from elsewhere: a classifier of images with its own preprocessing.

    The preprocessing becomes part of the model, so that whatever takes a model of images takes it.
    """

    path: str = Field(description="The .onnx file, with all its weights in it.")
    sha256: str | None = Field(
        None, pattern="^[0-9a-f]{64}$", description="SHA-256 that the file must have; empty: any."
    )
    image: str = Field("image", min_length=1, description="Column with the image, when a table is scored.")


class ImportOnnxInputs(Inputs):
    """The dataset that it is checked and judged on; without one it can be a signal, but pass no gate."""

    dataset: DatasetRef | None = None


class ImportOnnxOutputs(Outputs):
    """The model, and the same under the name of its label: signals:LABEL in a rule set."""

    model: ModelRef
    signals: SignalsRef


def run(config: ImportOnnxConfig, inputs: ImportOnnxInputs, context: StepContext) -> ImportOnnxOutputs:
    """Check the file, make the bundle, and log it with the role ``imported``.

    :param config: the file, and how it reads and answers.
    :param inputs: maybe a dataset.
    :param context: the step.
    :return: the logged model.
    :raises ModelError: if the file is refused, or has another digest.
    """
    from modelmill.errors import ModelError
    from modelmill.models.bundle import bundle_bytes
    from modelmill.models.foreign_bundle import import_foreign
    from modelmill.registry.bundles import log_model
    from modelmill.registry.signal_models import log_signals

    path = Path(config.path).expanduser()
    digest = _digest(path)
    if config.sha256 not in (None, digest):
        raise ModelError(
            f"the file must have the digest {config.sha256}",
            got=f"{digest} of {path}",
            remedy="download it again; or, if it is meant to be another one, change sha256",
        )
    bundle = context.workdir / "bundle"
    found = import_foreign(path, bundle, config, image=config.image)
    metrics = {"bytes": float(bundle_bytes(bundle)), "parameters": float(found.parameters)}
    model = log_model(
        bundle,
        role="imported",
        context=context,
        dataset=inputs.dataset,
        metrics=metrics,
        more_tags={"modelmill.imported": digest},
    )
    context.log(
        f"{context.step}: {path.name}, {metrics['bytes'] / 1e6:.1f} MB, reads images of "
        f"{found.size[0]} x {found.size[1]} pixels; what it learnt from is not known"
    )
    return ImportOnnxOutputs(model=model, signals=log_signals({config.label: model}, context))


def _digest(path: Path) -> str:
    from modelmill.models.foreign_onnx import MOST_BYTES
    from modelmill.system.digests import file_digest

    # A device has no end; what is wrong with it, or with a file that is not there, is said when it is read.
    is_readable = path.is_file() and path.stat().st_size <= MOST_BYTES
    return file_digest(path) if is_readable else "unreadable"


def _file(config: ImportOnnxConfig, _inputs: ImportOnnxInputs, settings: Settings) -> str:
    from modelmill.system.digests import file_digests

    path = Path(config.path).expanduser()
    try:
        return file_digests(path.parent, [path.name], memory=settings.digests)[path.name]
    except OSError:
        return "missing"  # the step itself says why


import_onnx = Component(
    name="import_onnx",
    title="Import ONNX",
    group="Train",
    config=ImportOnnxConfig,
    inputs=ImportOnnxInputs,
    outputs=ImportOnnxOutputs,
    run=run,
    reads=("image",),
    outside_state=_file,
    resources=Resources(cpus=1, memory_gb=4),
)
