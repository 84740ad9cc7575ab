"""Several teachers into one student: a trunk with a head for each of them, trained together.

The student starts from layers of one teacher and has as many linear heads as there are teachers. Each row
teaches all heads: what a teacher answers to it, and the row's label where the dataset has it. So one pass of
a small encoder answers what many large ones did. A teacher's label need not stand in the dataset.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file

from modelmill.artifacts import DatasetRef, ModelRef, SignalsRef
from modelmill.component import StepContext
from modelmill.datasets.examples import split_places
from modelmill.errors import ConfigError, DatasetError, did_you_mean
from modelmill.models.bundle import BundleInfo, bundle_bytes
from modelmill.models.classifier import Classifier, load_classifier, parameter_count
from modelmill.models.heads import STACKS, WEIGHTS_FILE
from modelmill.models.scorers import load_scorer
from modelmill.models.trunk import Trunk
from modelmill.steps.distill_signals import DistillSignalsConfig
from modelmill.system.cpu import usable_cores
from modelmill.tasks.calibration import FloatArray
from modelmill.tasks.examples import LabelledData, read_labelled
from modelmill.tokens.cache import tokenised
from modelmill.tokens.token_ids import Places
from modelmill.training.calibration import fit_calibration
from modelmill.training.distillation import make_student
from modelmill.training.features import trunk_features
from modelmill.training.fine_tuning import log_course
from modelmill.training.loop import Encoded, Loss, train
from modelmill.training.soft_labels import UNKNOWN, distillation_loss
from modelmill.training.teaching import Logits, Teacher, check_teacher, loss_sum, objective_loss
from modelmill.training.trunk import make_trunk


@dataclass(frozen=True)
class _Subject:
    """What one teacher teaches."""

    teacher: Teacher
    data: LabelledData | None
    """The rows with its label; None where the dataset has it not."""
    outputs: slice
    """Its logits among those of all."""
    soft: Logits
    """Its logits for the train rows, ``(rows, outputs)``."""
    units: tuple[float, float]
    """Mean and standard deviation in which numbers are learned."""

    def targets(self, places: Places) -> torch.Tensor:
        """Return the labels of the train rows, ``(rows, …)``; see :data:`UNKNOWN`."""
        info, (mean, spread) = self.teacher.info, self.units
        shape = (len(places), len(info.classes)) if info.target == "classes" else (len(places),)
        found = np.full(shape, UNKNOWN[info.target])
        if self.data is not None:
            rows = self.data.train
            found[np.searchsorted(places, rows.places)] = (rows.targets - mean) / spread
        return torch.from_numpy(found).to(torch.long if info.target == "class" else torch.float32)


def run(
    config: DistillSignalsConfig, dataset: DatasetRef, teachers: Sequence[ModelRef], context: StepContext
) -> tuple[ModelRef, SignalsRef]:
    """Distil one student with many heads out of several teachers, and register each head.

    Nothing is logged before the student is trained and exported.

    :param config: how.
    :param dataset: its train rows, labelled or not, are what the teachers answer.
    :param teachers: at least one, each of a label of its own; the one that the student starts from is of
        format ``torch``.
    :param context: the step.
    :return: the trunk, and the signals' models that stand on it.
    :raises InputError: if a teacher cannot be used, or there are no train rows.
    """
    from modelmill.registry.bundles import log_model
    from modelmill.registry.signal_models import log_signals
    from modelmill.registry.versions import register

    loaded = _load(teachers, context)
    start = _start(config, loaded)
    places = split_places(dataset, "train")
    if not len(places):
        raise DatasetError("the train split must have rows", got=str(dataset), remedy="change the split")
    context.run.log_dataset(dataset, context="training", rows=len(places))
    subjects = _subjects(loaded, dataset, places, context)
    length = config.max_tokens or start.info.encoder_tokens or start.info.max_tokens
    tokens = tokenised(dataset, start.folder, max_length=length, cache=context.cache, log=context.log)
    model = _student(config, start, subjects)
    context.log(
        f"{len(subjects)} teachers, {len(places):,} train rows; one student with "
        f"{model.config.num_hidden_layers} layers, {parameter_count(model):,} parameters"
    )
    rows = Encoded(tokens.take(places), np.zeros(len(places), dtype=np.int64))
    answers = _answers_loss(config, subjects, places)
    with objective_loss(config, model, start, start.folder, rows.tokens, length) as more:
        torch.manual_seed(config.seed)
        trained = train(
            model, rows, validation=None, loss=loss_sum(answers, more), config=config, context=context
        )
    bundle = context.workdir / "trunk"
    make_trunk(
        model.encoder,
        bundle,
        tokenizer=start.folder / "tokenizer.json",
        text=dataset.text_column,
        max_tokens=length,
        method=config.method,
    )
    log_course(trained, context)
    trunk = log_model(
        bundle,
        role="trunk",
        dataset=dataset,
        context=context,
        parent=start.reference,
        metrics={"bytes": float(bundle_bytes(bundle))},
    )
    heads = _Heads(config, dataset, trunk, bundle, context)
    models = {subject.teacher.info.label: heads.log(model, subject) for subject in subjects}
    for label, head in models.items():
        register(context.run.client, f"{config.prefix}{label}", head)
    context.run.log_metrics({"signals": float(len(models))})
    return trunk, log_signals(models, context)


def _load(teachers: Sequence[ModelRef], context: StepContext) -> list[Teacher]:
    from modelmill.registry.bundles import fetch_bundle

    folders = [fetch_bundle(teacher, context.cache) for teacher in teachers]
    loaded = [
        Teacher(reference, folder, BundleInfo.load(folder), load_scorer(folder))
        for reference, folder in zip(teachers, folders, strict=True)
    ]
    labels = [teacher.info.label for teacher in loaded]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if not labels or twice:
        raise ConfigError(
            "a student of many needs teachers, each of a label of its own",
            got=f"several for {', '.join(twice)}" if twice else 0,
            remedy="add inputs: {teachers: [STEP.model, …]}, one for each label",
        )
    return loaded


def _start(config: DistillSignalsConfig, teachers: Sequence[Teacher]) -> Teacher:
    named = {teacher.info.label: teacher for teacher in teachers}
    if config.start is None:
        return next((one for one in teachers if one.info.format == "torch"), teachers[0])
    if config.start not in named:
        raise ConfigError(
            "start must name the label of a teacher",
            got=config.start,
            remedy=did_you_mean(config.start, named),
        )
    return named[config.start]


def _subjects(
    teachers: Sequence[Teacher], dataset: DatasetRef, places: Places, context: StepContext
) -> list[_Subject]:
    found, end = [], 0
    for teacher in teachers:
        data = None
        if teacher.info.label in dataset.labels:
            data = read_labelled(dataset, label=teacher.info.label)
            check_teacher(teacher.folder, data)
        else:
            context.log(f"{teacher.info.label}: no column of the dataset; the teacher alone says what it is")
        soft = teacher.answers(dataset, places, context)
        units = (0.0, 1.0)
        if teacher.info.target == "number":
            units = data.units if data else (float(soft.mean()), float(soft.std()) or 1.0)
        found.append(_Subject(teacher, data, slice(end, end + teacher.info.outputs), soft, units))
        end += teacher.info.outputs
    return found


def _student(config: DistillSignalsConfig, start: Teacher, subjects: Sequence[_Subject]) -> Classifier:
    torch.manual_seed(config.seed)
    own = make_student(load_classifier(start.folder), layers=config.layers, dropout=config.dropout)
    student = Classifier(own.encoder, classes=subjects[-1].outputs.stop, dropout=config.dropout)
    (place,) = [subject for subject in subjects if subject.teacher is start]
    mean, spread = place.units
    with torch.no_grad():
        student.head.weight[place.outputs] = own.head.weight / spread
        student.head.bias[place.outputs] = (own.head.bias - mean) / spread
    return student


def _answers_loss(config: DistillSignalsConfig, subjects: Sequence[_Subject], places: Places) -> Loss:
    # The teachers themselves must not be part of it: the loss may go to other processes.
    outputs = [subject.outputs for subject in subjects]
    targets = [subject.targets(places) for subject in subjects]
    losses = [
        distillation_loss(
            subject.soft,
            temperature=config.temperature,
            soft_weight=config.soft_weight,
            target=subject.teacher.info.target,
            units=subject.units,
        )
        for subject in subjects
    ]

    def loss(logits: torch.Tensor, _targets: torch.Tensor, rows: Places) -> torch.Tensor:
        each = [
            own(logits[:, columns], wanted[torch.from_numpy(rows)].to(logits.device), rows)
            for own, columns, wanted in zip(losses, outputs, targets, strict=True)
        ]
        return torch.stack(each).mean()

    return loss


class _Heads:
    """Writes the heads of a trained student, each as a model of its own."""

    def __init__(
        self,
        config: DistillSignalsConfig,
        dataset: DatasetRef,
        trunk: ModelRef,
        bundle: Path,
        context: StepContext,
    ) -> None:
        self.config, self.dataset, self.trunk, self.context = config, dataset, trunk, context
        self.places = split_places(dataset, "validation")
        loaded = Trunk(bundle, threads=usable_cores())
        self.info, self.size = loaded.info, loaded.features
        tokens = tokenised(
            dataset, bundle, max_length=loaded.info.max_tokens, cache=context.cache, log=context.log
        )
        self.features = trunk_features(
            loaded, trunk.digest, tokens.take(self.places), states=False, context=context
        ).take(np.arange(len(self.places)))

    def log(self, model: Classifier, subject: _Subject) -> ModelRef:
        """Log one head, calibrated and measured on the validation rows as it serves."""
        from modelmill.registry.bundles import log_model

        teacher = subject.teacher
        mean, spread = subject.units
        weights = {
            "weight": (model.head.weight.detach()[subject.outputs] * spread).numpy(),
            "bias": (model.head.bias.detach()[subject.outputs] * spread + mean).numpy(),
        }
        stack = STACKS["linear"]([weights])
        logits: FloatArray = np.array([stack(row) for row in self.features], dtype=np.float32)
        logits = logits.reshape(len(self.features), teacher.info.outputs)
        metrics, calibration = {}, None
        if len(logits):
            wanted = teacher.answers(self.dataset, self.places, self.context)
            metrics["teacher_agreement"] = teacher.info.task.agreement(logits, wanted)
        if subject.data is not None and len(subject.data.validation):
            rows = subject.data.validation
            own = logits[np.searchsorted(self.places, rows.places)]
            found = teacher.info.task.quality(own, rows.targets)
            metrics |= {f"validation_{name}": value for name, value in found.items()}
            calibration = fit_calibration(
                self.config.calibration, own, rows.targets, target=teacher.info.target
            )
        folder = self.context.workdir / "heads" / f"{subject.outputs.start:05d}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        save_file(
            {name: np.ascontiguousarray(value) for name, value in weights.items()}, folder / WEIGHTS_FILE
        )
        BundleInfo(
            format="head",
            label=teacher.info.label,
            classes=teacher.info.classes,
            target=teacher.info.target,
            calibration=calibration,
            text=self.dataset.text_column,
            max_tokens=self.info.max_tokens,
            parameters=sum(value.size for value in weights.values()),
            features=self.size,
            head="linear",
            trunk=self.trunk.digest,
        ).save(folder)
        shown = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        self.context.log(f"{teacher.info.label}: {shown or 'no validation rows'}")
        return log_model(
            folder,
            role="head",
            context=self.context,
            dataset=self.dataset,
            parent=teacher.reference,
            trunk=self.trunk,
            metrics={f"{name}/{teacher.info.label}": value for name, value in metrics.items()},
        )
