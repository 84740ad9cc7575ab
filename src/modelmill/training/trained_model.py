"""What a training yields: the bundle of a model, and how good it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from modelmill.models.bundle import BundleInfo
from modelmill.models.classifier import Classifier, parameter_count, save_classifier
from modelmill.models.encoder import depth
from modelmill.tasks.calibration import Calibration, FloatArray
from modelmill.tasks.examples import LabelledData
from modelmill.tokens.contents import content_of
from modelmill.training.rows import EncodedRows
from modelmill.training.state import TrainingHistory
from modelmill.workspace import Workspace


@dataclass(frozen=True)
class TrainedModel:
    """A model that has been trained."""

    folder: Path
    """Its bundle."""
    metrics: Mapping[str, float]
    """Metrics on the validation rows, by name; empty without such rows."""
    history: TrainingHistory


def save_bundle(
    model: Classifier,
    data: LabelledData,
    workspace: Workspace,
    *,
    text: str,
    tokenizer: Path,
    max_tokens: int,
    calibration: Calibration | None = None,
) -> Path:
    """Write the bundle of a trained model into the work directory.

    :param model: the model, on the CPU.
    :param data: what it learned.
    :param workspace: the bundle is the folder ``bundle`` of its work directory.
    :param text: column that held the texts.
    :param tokenizer: ``tokenizer.json`` to copy, or ``image.json``.
    :param max_tokens: tokens of a text that it reads.
    :param calibration: what makes probabilities of its logits.
    :return: the bundle.
    """
    info = BundleInfo(
        format="torch",
        label=data.label,
        classes=data.classes,
        target=data.target,
        calibration=calibration,
        content=content_of(tokenizer.parent).kind,
        text=text,
        max_tokens=max_tokens,
        encoder_tokens=model.encoder_tokens,
        lexical=model.lexical is not None,
        parameters=parameter_count(model),
    )
    folder = workspace.workdir / "bundle"
    save_classifier(model, folder, tokenizer=tokenizer, info=info)
    return folder


def describe(model: Classifier, data: LabelledData) -> str:
    """Return a line for the log: the label, the rows, the model and the device."""
    return (
        f"{data.label}: {data.task.describe(data.classes)}; {len(data.train):,} train and "
        f"{len(data.validation):,} validation rows; {model.config.model_type} with "
        f"{depth(model.encoder)} layers, "
        f"{parameter_count(model):,} parameters, on the {'GPU' if torch.cuda.is_available() else 'CPU'}"
    )


def validation_metrics(rows: EncodedRows, logits: FloatArray) -> dict[str, float]:
    """Return the metrics of a model, under the names by which they are tracked.

    :param rows: validation rows.
    :param logits: the model's, ``(rows, outputs)``.
    :return: values by name.
    """
    found = rows.task.quality(logits, rows.targets)
    return {f"validation_{name}": value for name, value in found.items()}
