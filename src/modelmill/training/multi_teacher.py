"""Several teachers into one student: an encoder with a head for each of them, trained together.

The student starts from layers of one teacher and has as many linear heads as there are teachers. Each row
trains all heads: by a teacher's answer, and by the row's label if the dataset has one. So one pass of a small
encoder gives what many large ones gave. A teacher's label need not be a column of the dataset.

The student's encoder is then exported as a trunk, see :mod:`modelmill.compression.trunk`, on which
:func:`student_heads` calibrates and measures the heads as they serve.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from modelmill.errors import ConfigError, DatasetError
from modelmill.models.classifier import Classifier, load_classifier, parameter_count
from modelmill.models.heads import STACKS
from modelmill.models.trunk import Trunk
from modelmill.tasks.calibration import FloatArray
from modelmill.tasks.examples import LabelledData
from modelmill.tokens.texts import Texts
from modelmill.tokens.token_ids import Places
from modelmill.training.calibration import fit_calibration
from modelmill.training.features import trunk_features
from modelmill.training.head_bundle import TrainedHead, save_head
from modelmill.training.losses import Loss, loss_sum
from modelmill.training.options import CalibrationOptions, MultiTeacherOptions
from modelmill.training.relations import objective_loss
from modelmill.training.rows import EncodedRows
from modelmill.training.soft_labels import distillation_loss
from modelmill.training.state import TrainingHistory
from modelmill.training.student import make_student
from modelmill.training.teacher import Teacher, check_teacher
from modelmill.training.trainer import train
from modelmill.workspace import Workspace


@dataclass(frozen=True)
class TaughtSignal:
    """What one teacher teaches."""

    teacher: Teacher
    data: LabelledData | None
    """The rows with its label; None if the dataset has no such column."""
    outputs: slice
    """Its logits among those of all teachers."""
    soft: FloatArray
    """Its logits for the train rows, ``(rows, outputs)``."""
    units: tuple[float, float]
    """Mean and standard deviation in which numbers are learned."""

    def targets(self, places: Places) -> torch.Tensor:
        """Return the labels of the train rows, ``(rows, …)``; see :meth:`Task.unlabelled`."""
        info, (mean, spread) = self.teacher.info, self.units
        found = info.task.unlabelled(len(places), info.classes)
        if self.data is not None:
            rows = self.data.train
            found[np.searchsorted(places, rows.places)] = (rows.targets - mean) / spread
        return torch.from_numpy(found)


@dataclass(frozen=True)
class MultiHeadStudent:
    """A student with a head for each of its teachers."""

    model: Classifier
    """On the CPU, in evaluation mode; its head has the logits of all teachers."""
    start: Teacher
    """The teacher whose layers and tokenizer it has."""
    max_tokens: int
    """Tokens of a text that it reads."""
    signals: Sequence[TaughtSignal]
    history: TrainingHistory


def distill_many(
    teachers: Sequence[Teacher],
    labelled: Mapping[str, LabelledData],
    texts: Texts,
    options: MultiTeacherOptions,
    workspace: Workspace,
    *,
    places: Places,
) -> MultiHeadStudent:
    """Distil one student with many heads out of several teachers.

    :param teachers: at least one, each of a label of its own; the one that the student starts from is of
        format ``torch``.
    :param labelled: labelled rows of the texts, by label; teachers without are learned from their answers
        alone.
    :param texts: all texts.
    :param options: how to train, and the student's size.
    :param workspace: gets checkpoints, metrics and the log; its cache keeps the teachers' logits.
    :param places: the texts that the student learns from, labelled or not, ``(rows,)``, rising.
    :return: the student.
    :raises InputError: if a teacher cannot be used, or there are no rows.
    """
    _check_labels([teacher.info.label for teacher in teachers])
    start = _start(options, teachers)
    if not len(places):
        raise DatasetError("the train split must have rows", got=str(texts), remedy="change the split")
    signals = _taught_signals(teachers, labelled, texts, places, workspace)
    length = options.max_tokens or start.info.encoder_tokens or start.info.max_tokens
    tokens = texts.tokens(start.folder, max_tokens=length)
    model = _student(options, start, signals)
    workspace.log(
        f"{len(signals)} teachers, {len(places):,} train rows; one student with "
        f"{model.config.num_hidden_layers} layers, {parameter_count(model):,} parameters"
    )
    rows = EncodedRows(tokens.take(places), np.zeros(len(places), dtype=np.int64))
    answers = _answers_loss(options, signals, places)
    with objective_loss(
        options.objective, model, start, rows.tokens, tokenizer_folder=start.folder, max_tokens=length
    ) as more:
        torch.manual_seed(options.seed)
        history = train(
            model,
            rows,
            validation=None,
            loss=loss_sum(answers, more),
            options=options,
            workspace=workspace,
        )
    return MultiHeadStudent(model, start, length, signals, history)


def _check_labels(labels: Sequence[str]) -> None:
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if not labels or twice:
        raise ConfigError(
            "a student of many needs teachers, each of a label of its own",
            got=f"several for {', '.join(twice)}" if twice else 0,
            remedy="add inputs: {teachers: [STEP.model, …]}, one for each label",
        )


def _start(options: MultiTeacherOptions, teachers: Sequence[Teacher]) -> Teacher:
    named = {teacher.info.label: teacher for teacher in teachers}
    if options.start is None:
        return next((one for one in teachers if one.info.format == "torch"), teachers[0])
    if options.start not in named:
        raise ConfigError(
            "start must name the label of a teacher",
            got=options.start,
            choices=named,
        )
    return named[options.start]


def _taught_signals(
    teachers: Sequence[Teacher],
    labelled: Mapping[str, LabelledData],
    texts: Texts,
    places: Places,
    workspace: Workspace,
) -> list[TaughtSignal]:
    found, end = [], 0
    for teacher in teachers:
        label, outputs = teacher.info.label, teacher.info.outputs
        data = labelled.get(label)
        if data is None:
            workspace.log(f"{label}: no column of the dataset; the teacher alone says what it is")
        else:
            check_teacher(teacher.folder, data)
        soft = teacher.logits(texts, places, workspace)
        units = data.units if data else teacher.info.task.units(soft)
        found.append(TaughtSignal(teacher, data, slice(end, end + outputs), soft, units))
        end += outputs
    return found


def _student(options: MultiTeacherOptions, start: Teacher, signals: Sequence[TaughtSignal]) -> Classifier:
    torch.manual_seed(options.seed)
    own = make_student(load_classifier(start.folder), layers=options.layers, dropout=options.dropout)
    student = Classifier(own.encoder, classes=signals[-1].outputs.stop, dropout=options.dropout)
    (place,) = [signal for signal in signals if signal.teacher is start]
    mean, spread = place.units
    with torch.no_grad():
        student.head.weight[place.outputs] = own.head.weight / spread
        student.head.bias[place.outputs] = (own.head.bias - mean) / spread
    return student


def _answers_loss(options: MultiTeacherOptions, signals: Sequence[TaughtSignal], places: Places) -> Loss:
    # The teachers themselves must not be part of it: the loss may go to other processes.
    outputs = [signal.outputs for signal in signals]
    targets = [signal.targets(places) for signal in signals]
    losses = [
        distillation_loss(
            signal.soft,
            temperature=options.temperature,
            soft_weight=options.soft_weight,
            task=signal.teacher.info.task,
            units=signal.units,
        )
        for signal in signals
    ]

    def loss(logits: torch.Tensor, _targets: torch.Tensor, rows: Places) -> torch.Tensor:
        each = [
            own(logits[:, columns], wanted[torch.from_numpy(rows)].to(logits.device), rows)
            for own, columns, wanted in zip(losses, outputs, targets, strict=True)
        ]
        return torch.stack(each).mean()

    return loss


def student_heads(
    student: MultiHeadStudent,
    trunk: Trunk,
    texts: Texts,
    calibration: CalibrationOptions | None,
    workspace: Workspace,
    *,
    places: Places,
) -> dict[str, TrainedHead]:
    """Write the heads of a student, each calibrated and measured on validation rows as it serves.

    :param student: the student.
    :param trunk: its encoder, exported.
    :param texts: all texts.
    :param calibration: how probabilities are made of logits; None: not at all.
    :param workspace: gets the bundles and the log; its cache keeps the trunk's features.
    :param places: the validation rows, labelled or not, ``(rows,)``, rising.
    :return: the heads by label, bundles of format ``head``.
    """
    tokens = texts.tokens(trunk.folder, max_tokens=trunk.info.max_tokens)
    features = trunk_features(trunk, tokens.take(places), states=False, workspace=workspace).take(
        np.arange(len(places))
    )  # (rows, features)
    found = {}
    for signal in student.signals:
        teacher, (mean, spread) = signal.teacher, signal.units
        task = teacher.info.task
        weights = {
            "weight": (student.model.head.weight.detach()[signal.outputs] * spread).numpy(),
            "bias": (student.model.head.bias.detach()[signal.outputs] * spread + mean).numpy(),
        }
        stack = STACKS["linear"]([weights])
        logits: FloatArray = np.array([stack(row) for row in features], dtype=np.float32)
        logits = logits.reshape(len(features), teacher.info.outputs)
        metrics, fitted = {}, None
        if len(logits):
            wanted = teacher.logits(texts, places, workspace)
            metrics["teacher_agreement"] = task.agreement(logits, wanted)
        if signal.data is not None and len(signal.data.validation):
            rows = signal.data.validation
            own = logits[np.searchsorted(places, rows.places)]
            measured = task.quality(own, rows.targets)
            metrics |= {f"validation_{name}": value for name, value in measured.items()}
            fitted = fit_calibration(calibration, own, rows.targets, task=task)
        folder = workspace.workdir / "heads" / f"{signal.outputs.start:05d}"
        save_head(folder, weights, trunk, teacher.info, kind="linear", text=texts.column, calibration=fitted)
        shown = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        workspace.log(f"{teacher.info.label}: {shown or 'no validation rows'}")
        found[teacher.info.label] = TrainedHead(folder, metrics)
    return found
