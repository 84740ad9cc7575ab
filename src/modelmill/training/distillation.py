"""Distillation: a student learns the answers of a teacher.

What it minimises is in :mod:`modelmill.training.soft_labels` and :mod:`modelmill.training.relations`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from modelmill.errors import ConfigError
from modelmill.models.classifier import Classifier, all_logits, load_classifier
from modelmill.models.lexical import LexicalHead
from modelmill.models.scorer import Scorer
from modelmill.models.scorers import load_scorer
from modelmill.tasks.calibration import FloatArray
from modelmill.tasks.examples import LabelledData
from modelmill.tokens.images import ImageInput
from modelmill.tokens.texts import Texts
from modelmill.tokens.token_ids import Tokens
from modelmill.training.distillation_data import DistillationData, distillation_data, with_transfer
from modelmill.training.image_start import image_start
from modelmill.training.image_student import image_student
from modelmill.training.lexical_head import add_lexical_head
from modelmill.training.losses import fit_scale, in_units, loss_sum, undo_scale
from modelmill.training.options import DistillationOptions, StudentOptions
from modelmill.training.relations import objective_loss
from modelmill.training.soft_labels import distillation_loss
from modelmill.training.state import TrainingHistory
from modelmill.training.student import make_student
from modelmill.training.teacher import Teacher, check_teacher
from modelmill.training.trained_model import TrainedModel, describe, save_bundle, validation_metrics
from modelmill.training.trainer import train
from modelmill.workspace import Workspace


def distill(
    data: LabelledData,
    texts: Texts,
    teacher: Teacher,
    options: StudentOptions,
    workspace: Workspace,
    *,
    transfer: Texts | None = None,
) -> TrainedModel:
    """Distil a student with fewer layers, or stages, out of a teacher.

    :param data: labelled rows of the texts or images.
    :param texts: all texts, or images.
    :param teacher: a model of format ``torch``, of the same label and classes.
    :param options: how to train, and the student's size.
    :param workspace: gets checkpoints, the bundle, metrics and the log; its cache keeps the teacher's logits.
    :param transfer: more texts, without labels, which the teacher answers.
    :return: the student, a bundle of format ``torch``.
    :raises InputError: if the teacher does not fit the data or the options.
    """
    check_teacher(teacher.folder, data)
    large = load_classifier(teacher.folder)
    start = (_image_start if teacher.info.content == "image" else _text_start)(
        large, teacher, options, workspace
    )
    model = start.model
    workspace.log(describe(model, data))
    learned = distillation_data(
        data,
        texts,
        teacher,
        workspace,
        tokenizer_folder=start.reader.parent,
        max_tokens=start.max_tokens,
        encoder_tokens=start.encoder_tokens,
    )
    if transfer is not None:
        learned = with_transfer(learned, transfer, texts, workspace)
    history = train_student(model, learned, options, workspace, lexical=large.lexical)
    folder = save_bundle(
        model, data, workspace, text=texts.column, tokenizer=start.reader, max_tokens=start.max_tokens
    )
    metrics: dict[str, float] = {}
    if learned.validation is not None:
        rows = learned.validation.tokens
        metrics = validation_metrics(learned.validation, all_logits(model, rows))
        wanted = teacher.logits(texts, data.validation.places, workspace)
        metrics["teacher_agreement"] = log_agreement(load_scorer(folder), rows, wanted, workspace)
    return TrainedModel(folder, metrics, history)


@dataclass(frozen=True)
class _Start:
    """A student before its training."""

    model: Classifier
    reader: Path
    """``tokenizer.json`` or ``image.json``, in a folder of its own or the teacher's."""
    max_tokens: int
    """Tokens of a text that the student reads, its lexical head included; numbers of an image."""
    encoder_tokens: int
    """Those that its encoder reads."""


def _text_start(
    large: Classifier, teacher: Teacher, options: StudentOptions, _workspace: Workspace
) -> _Start:
    if options.student is not None:
        raise ConfigError(
            "a student of texts starts from layers of its teacher",
            got=options.student,
            remedy="leave student empty, or fine-tune that base model instead",
        )
    info = teacher.info
    length = options.max_tokens or info.encoder_tokens or info.max_tokens
    model = make_student(large, layers=options.layers, dropout=options.dropout)
    return _Start(
        model, teacher.folder / "tokenizer.json", info.max_tokens if info.lexical else length, length
    )


def _image_start(
    large: Classifier, _teacher: Teacher, options: StudentOptions, workspace: Workspace
) -> _Start:
    base = image_start(image_student(large, options), workspace)
    torch.manual_seed(options.seed)
    model = Classifier(base.encoder, classes=large.head.out_features, dropout=options.dropout)
    numbers = ImageInput.load(base.tokenizer.parent).numbers
    return _Start(model, base.tokenizer, numbers, numbers)


def train_student(
    model: Classifier,
    learned: DistillationData,
    options: DistillationOptions,
    workspace: Workspace,
    *,
    lexical: LexicalHead | None,
) -> TrainingHistory:
    """Train a student.

    :param model: the student, without a lexical head; changed in place.
    :param learned: what it learns.
    :param options: how to train.
    :param workspace: gets checkpoints, metrics and the log.
    :param lexical: the head that it gets afterwards; None: none.
    :return: the history of the training.
    :raises ModelError: if the loss is no longer finite, or a single row does not fit into memory.
    """
    data, length, validation = learned.data, learned.encoder_tokens, learned.validation
    rows = in_units(learned.rows.cut(length), data)
    undo_scale(model, data)
    answers = distillation_loss(
        learned.soft,
        temperature=options.temperature,
        soft_weight=options.soft_weight,
        task=data.task,
        units=data.units,
    )
    with objective_loss(
        options.objective,
        model,
        learned.teacher,
        rows.tokens,
        tokenizer_folder=learned.tokenizer_folder,
        max_tokens=length,
    ) as more:
        torch.manual_seed(options.seed)
        history = train(
            model,
            rows,
            validation=in_units(validation.cut(length), data) if validation else None,
            loss=loss_sum(answers, more),
            options=options,
            workspace=workspace,
        )
    fit_scale(model, data)
    if lexical is not None:
        add_lexical_head(model, lexical, validation, encoder_tokens=length, workspace=workspace)
    return history


def log_agreement(student: Scorer, tokens: Tokens, wanted: FloatArray, workspace: Workspace) -> float:
    """Log how often a student and its teacher give the same answer.

    :param student: the student, as it serves.
    :param tokens: validation rows, as its tokenizer makes them.
    :param wanted: the teacher's logits for the same rows.
    :param workspace: gets the metric.
    :return: see :meth:`modelmill.tasks.base.Task.agreement`.
    """
    task = student.info.task
    found = task.agreement(student.score(tokens), wanted)
    workspace.tracker.log_metrics({"teacher_agreement": found})
    workspace.log(
        f"{found:.2%} of the validation rows get the teacher's answer"
        if task.has_classes
        else f"of the teacher's variance on the validation rows it has {found:.2%}"
    )
    return found
