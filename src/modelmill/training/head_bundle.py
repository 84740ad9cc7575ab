"""The bundle of a trained head, and how good the head is."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from modelmill.models.bundle import BundleInfo, HeadKind
from modelmill.models.heads import WEIGHTS_FILE, Weights
from modelmill.models.trunk import Trunk
from modelmill.tasks.calibration import Calibration
from modelmill.tasks.examples import LabelledData


@dataclass(frozen=True)
class TrainedHead:
    """A head that has been trained."""

    folder: Path
    """Its bundle."""
    metrics: Mapping[str, float]
    """Metrics by name; those of the validation rows are missing without such rows."""


def save_head(
    folder: Path,
    weights: Weights,
    trunk: Trunk,
    answers: LabelledData | BundleInfo,
    *,
    kind: HeadKind,
    text: str,
    calibration: Calibration | None,
) -> None:
    """Write the bundle of a head.

    :param folder: the bundle; replaced if it exists.
    :param weights: the head's weights, by name.
    :param trunk: the trunk that it reads.
    :param answers: has the label, the kind of label and the classes that the head answers.
    :param kind: kind of head.
    :param text: column that held the texts.
    :param calibration: what makes probabilities of its logits.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    save_file({name: np.ascontiguousarray(value) for name, value in weights.items()}, folder / WEIGHTS_FILE)
    BundleInfo(
        format="head",
        label=answers.label,
        classes=answers.classes,
        target=answers.target,
        calibration=calibration,
        content=trunk.info.content,
        text=text,
        max_tokens=trunk.info.max_tokens,
        parameters=sum(value.size for value in weights.values()),
        features=trunk.features,
        head=kind,
        trunk=trunk.digest,
    ).save(folder)
