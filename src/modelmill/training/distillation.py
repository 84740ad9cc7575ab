"""Distillation: a student with fewer layers learns the answers of a teacher.

The student starts from evenly spaced layers of the teacher, as in Sanh et al., "DistilBERT" (2019,
arXiv 1910.01108). What it minimises is in :mod:`modelmill.training.soft_labels`.
"""

from __future__ import annotations

import copy

import numpy as np

from modelmill.artifacts import DatasetRef, ModelRef, TableRef
from modelmill.component import StepContext
from modelmill.errors import ModelError
from modelmill.models.attention import KEPT_HEADS
from modelmill.models.classifier import Classifier, all_logits, load_classifier
from modelmill.models.encoder import build_encoder, layer_list
from modelmill.models.scorers import load_scorer
from modelmill.steps.distill import DistillConfig
from modelmill.tasks.examples import read_labelled
from modelmill.training.fine_tuning import describe, log_course, save, validation_metrics
from modelmill.training.teaching import load_teacher, log_agreement, prepare_lesson, teach
from modelmill.training.transfer_set import with_transfer


def run(
    config: DistillConfig,
    dataset: DatasetRef,
    teacher: ModelRef,
    context: StepContext,
    transfer: TableRef | None = None,
) -> ModelRef:
    """Distil a student out of a teacher.

    :param config: how.
    :param dataset: what to learn.
    :param teacher: a ``torch`` model of the same label and classes.
    :param context: the step.
    :param transfer: a table of texts without labels that the teacher answers; None: only labelled rows.
    :return: the logged model, role ``student``.
    :raises InputError: if the teacher does not fit the dataset or the configuration.
    """
    from modelmill.registry.bundles import log_model

    data = read_labelled(dataset, label=config.label)
    master = load_teacher(teacher, data, context)
    folder, info = master.folder, master.info
    encoder_tokens = config.max_tokens or info.encoder_tokens or info.max_tokens
    max_tokens = info.max_tokens if info.lexical else encoder_tokens
    large = load_classifier(folder)
    model = make_student(large, layers=config.layers, dropout=config.dropout)
    context.run.log_dataset(dataset, context="training", rows=len(data.train) + len(data.validation))
    context.log(describe(model, data))
    lesson = prepare_lesson(
        data,
        dataset,
        master,
        folder,
        max_tokens=max_tokens,
        encoder_tokens=encoder_tokens,
        context=context,
    )
    validation = lesson.validation
    if transfer is not None:
        text = config.transfer_text or dataset.text_column
        lesson = with_transfer(lesson, transfer, dataset, context, text=text, max_tokens=max_tokens)
    trained = teach(model, lesson, lexical=large.lexical, config=config, context=context)
    bundle = save(model, data, dataset, context, tokenizer=folder / "tokenizer.json", max_tokens=max_tokens)
    log_course(trained, context)
    metrics: dict[str, float] = {}
    if validation is not None:
        metrics = validation_metrics(validation, all_logits(model, validation.tokens))
        wanted = master.answers(dataset, data.validation.places, context)
        metrics["teacher_agreement"] = log_agreement(load_scorer(bundle), validation.tokens, wanted, context)
    return log_model(
        bundle, role="student", dataset=dataset, context=context, parent=teacher, metrics=metrics
    )


def make_student(teacher: Classifier, *, layers: int, dropout: float) -> Classifier:
    """Return a student that starts from evenly spaced layers of its teacher.

    :param teacher: the teacher; it is not changed.
    :param layers: the student's layers, the first and the last of the teacher among them if there are two.
    :param dropout: dropout in training.
    :return: the student, with the teacher's embeddings and head.
    :raises ModelError: if the teacher has fewer layers.
    """
    name, stack = layer_list(teacher.encoder)
    if layers > len(stack):
        raise ModelError(
            f"a student cannot have more layers than its teacher, {len(stack)}",
            got=layers,
            remedy=f"set layers to at most {len(stack)}",
        )
    config = copy.deepcopy(teacher.config)
    config.num_hidden_layers = layers
    for field in ("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout"):
        if hasattr(config, field):
            setattr(config, field, dropout)
    for field in ("layer_types", KEPT_HEADS):
        if isinstance(getattr(config, field, None), list):
            setattr(config, field, [getattr(config, field)[place] for place in spread(layers, len(stack))])
    student = Classifier(build_encoder(config), classes=teacher.head.out_features, dropout=dropout)
    weights = teacher.state_dict()
    prefix = f"encoder.{name}."
    # The lexical head is added when the student is trained.
    kept = ("encoder.", "head.")
    taken = {
        key: value for key, value in weights.items() if key.startswith(kept) and not key.startswith(prefix)
    }
    for target, source in enumerate(spread(layers, len(stack))):
        start = f"{prefix}{source}."
        for key, value in weights.items():
            if key.startswith(start):
                taken[f"{prefix}{target}.{key.removeprefix(start)}"] = value
    student.load_state_dict(taken)
    return student


def spread(count: int, total: int) -> list[int]:
    """Return evenly spaced positions.

    :param count: how many.
    :param total: of how many.
    :return: rising positions from 0; the last one is ``total - 1`` if there are two or more.
    """
    return [int(value) for value in np.linspace(0, total - 1, count)]
