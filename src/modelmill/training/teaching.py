"""What a student learns from a teacher, whether it was made by distilling to fewer layers or by pruning."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from modelmill.artifacts import DatasetRef, ModelRef
from modelmill.component import StepContext
from modelmill.errors import ModelError
from modelmill.models.bundle import BundleInfo
from modelmill.models.classifier import Classifier, load_classifier
from modelmill.models.lexical import LexicalHead
from modelmill.models.scorer import Scorer
from modelmill.models.scorers import load_scorer, score_into
from modelmill.tasks.examples import LabelledData
from modelmill.tokens.cache import tokenised
from modelmill.tokens.token_ids import Places, Tokens
from modelmill.tokens.tokenizer import tokenizer_digest
from modelmill.training.fine_tuning import add_lexical_head, encoded
from modelmill.training.loop import Encoded, Loss, Trained, train
from modelmill.training.losses import fit_scale, in_units, undo_scale
from modelmill.training.options import Relations, SoftLabels, TeachingConfig
from modelmill.training.relations import relation_loss
from modelmill.training.soft_labels import Answers, distillation_loss

Logits = npt.NDArray[np.float32]

_CHUNK_ROWS = 8192


@dataclass(frozen=True)
class Teacher:
    """A model that others learn from."""

    reference: ModelRef
    folder: Path
    """Its bundle."""
    info: BundleInfo
    scorer: Scorer

    def answers(
        self, dataset: DatasetRef, places: Places, context: StepContext, *, skip_empty: bool = False
    ) -> Logits:
        """Return its logits for rows of a dataset, which it reads with its own tokenizer.

        :param dataset: the dataset.
        :param places: of the rows, among all rows in the order of their keys.
        :param context: the step.
        :param skip_empty: see :func:`modelmill.tokens.cache.tokenised`.
        :return: ``(rows, outputs)``, mapped from a file.
        """
        tokens = tokenised(
            dataset,
            self.folder,
            max_length=self.info.max_tokens,
            cache=context.cache,
            log=context.log,
            skip_empty=skip_empty,
        )
        return teacher_logits(self.scorer, tokens.take(places), digest=self.reference.digest, context=context)


def load_teacher(reference: ModelRef, data: LabelledData, context: StepContext) -> Teacher:
    """Load a teacher.

    :param reference: a model of any format that answers.
    :param data: the rows that its student learns.
    :param context: the step.
    :return: the teacher.
    :raises ModelError: if it answers another question than the dataset asks.
    """
    from modelmill.registry.bundles import fetch_bundle

    folder = fetch_bundle(reference, context.cache)
    return Teacher(reference, folder, check_teacher(folder, data), load_scorer(folder))


@dataclass(frozen=True)
class Lesson:
    """What a student learns."""

    data: LabelledData
    teacher: Teacher
    folder: Path
    """Where the student's ``tokenizer.json`` lies."""
    rows: Encoded
    """Train rows as the student's tokenizer makes them, as long as its lexical head reads them."""
    soft: Answers
    """The teacher's logits for the same rows, ``(rows, outputs)``."""
    validation: Encoded | None
    """None without validation rows."""
    encoder_tokens: int
    """Tokens that the student's encoder reads."""


def prepare_lesson(
    data: LabelledData,
    dataset: DatasetRef,
    teacher: Teacher,
    folder: Path,
    *,
    max_tokens: int,
    encoder_tokens: int,
    context: StepContext,
) -> Lesson:
    """Tokenise the rows for a student, and have the teacher answer them.

    :param data: the rows.
    :param dataset: where they are from.
    :param teacher: what the student learns from.
    :param folder: where the student's ``tokenizer.json`` lies.
    :param max_tokens: tokens that the student reads, its lexical head included.
    :param encoder_tokens: tokens that its encoder reads.
    :param context: the step.
    :return: what it learns.
    """
    tokens = tokenised(dataset, folder, max_length=max_tokens, cache=context.cache, log=context.log)
    return Lesson(
        data=data,
        teacher=teacher,
        folder=folder,
        rows=encoded(tokens, data.train, target=data.target),
        soft=teacher.answers(dataset, data.train.places, context),
        validation=encoded(tokens, data.validation, target=data.target) if len(data.validation) else None,
        encoder_tokens=encoder_tokens,
    )


def teach(
    model: Classifier,
    lesson: Lesson,
    *,
    lexical: LexicalHead | None,
    config: TeachingConfig,
    context: StepContext,
) -> Trained:
    """Train a student.

    :param model: the student, without a lexical head; changed in place.
    :param lesson: what it learns.
    :param lexical: the head that it gets afterwards; None: none.
    :param config: how.
    :param context: the step.
    :return: the course of the training.
    :raises ModelError: if the loss is no longer finite, or a single row does not fit into memory.
    """
    data, length, validation = lesson.data, lesson.encoder_tokens, lesson.validation
    rows = in_units(lesson.rows.cut(length), data)
    if data.target == "number":
        undo_scale(model, data)
    answers = distillation_loss(
        lesson.soft,
        temperature=config.temperature,
        soft_weight=config.soft_weight,
        target=data.target,
        units=data.units,
    )
    with objective_loss(config, model, lesson.teacher, lesson.folder, rows.tokens, length) as more:
        torch.manual_seed(config.seed)
        trained = train(
            model,
            rows,
            validation=in_units(validation.cut(length), data) if validation else None,
            loss=loss_sum(answers, more),
            config=config,
            context=context,
        )
    if data.target == "number":
        fit_scale(model, data)
    if lexical is not None:
        add_lexical_head(model, lexical, validation, encoder_tokens=length, context=context)
    return trained


def loss_sum(first: Loss, second: Loss | None) -> Loss:
    """Return the sum of two losses.

    :param first: a loss.
    :param second: another one; None: nothing.
    :return: the sum.
    """
    if second is None:
        return first

    def loss(logits: torch.Tensor, targets: torch.Tensor, rows: Places) -> torch.Tensor:
        return first(logits, targets, rows) + second(logits, targets, rows)

    return loss


def objective_loss(
    config: TeachingConfig,
    model: Classifier,
    teacher: Teacher,
    folder: Path,
    tokens: Tokens,
    encoder_tokens: int,
) -> contextlib.AbstractContextManager[Loss | None]:
    """Return what the student minimises besides the distance of its answers, by the type of the objective.

    :param config: how it learns.
    :param model: the student.
    :param teacher: whom it learns from.
    :param folder: where the student's ``tokenizer.json`` lies.
    :param tokens: the train rows, as the student's encoder reads them.
    :param encoder_tokens: tokens that it reads.
    :return: a context in which the loss can be used; None: nothing more.
    """
    make = _OBJECTIVES[type(config.objective)]
    return make(config.objective, model, teacher, folder, tokens, encoder_tokens)


@contextlib.contextmanager
def _answers_alone(_config: SoftLabels, *_others: Any) -> Iterator[Loss | None]:
    yield None


@contextlib.contextmanager
def _relations(
    config: Relations, model: Classifier, teacher: Teacher, folder: Path, tokens: Tokens, encoder_tokens: int
) -> Iterator[Loss | None]:
    if tokenizer_digest(teacher.folder) != tokenizer_digest(folder):
        raise ModelError(
            "teacher and student must have the same tokenizer where relations between tokens are learned",
            got=f"another tokenizer.json in {teacher.reference.uri}",
            remedy="set objective: {kind: soft_labels}, or take a teacher with the student's tokenizer",
        )
    limit = teacher.info.encoder_tokens or teacher.info.max_tokens
    if encoder_tokens > limit:
        raise ModelError(
            f"a teacher of relations must read as many tokens as its student, {encoder_tokens}",
            got=limit,
            remedy=f"lower max_tokens to at most {limit}",
        )
    with relation_loss(config, model, load_classifier(teacher.folder), tokens) as loss:
        yield loss


_OBJECTIVES: Mapping[type[Any], Callable[..., contextlib.AbstractContextManager[Loss | None]]] = {
    SoftLabels: _answers_alone,
    Relations: _relations,
}


def log_agreement(student: Scorer, tokens: Tokens, wanted: Logits, context: StepContext) -> float:
    """Log how alike a student and its teacher answer.

    :param student: the student, as it serves.
    :param tokens: validation rows, as its tokenizer makes them.
    :param wanted: the teacher's logits for the same rows.
    :param context: the step.
    :return: see :meth:`modelmill.tasks.base.Task.agreement`.
    """
    target = student.info.target
    found = student.info.task.agreement(student.score(tokens), wanted)
    context.run.log_metrics({"teacher_agreement": found})
    context.log(
        f"of the teacher's variance on the validation rows it has {found:.2%}"
        if target == "number"
        else f"{found:.2%} of the validation rows get the teacher's answer"
    )
    return found


def check_teacher(folder: Path, data: LabelledData) -> BundleInfo:
    """Check that a teacher answers the question that the dataset asks.

    :param folder: the teacher's bundle.
    :param data: the dataset's rows.
    :return: what the bundle says of itself.
    :raises ModelError: if its label, its kind of label, or its classes differ.
    """
    info = BundleInfo.load(folder)
    if info.label != data.label:
        raise ModelError(
            f"the teacher must answer the label that the student learns, {data.label!r}",
            got=info.label,
            remedy="choose that label in the configuration, or fine-tune a teacher for it",
        )
    if info.target != data.target:
        raise ModelError(
            f"the teacher must answer with what the label column holds, {data.target}",
            got=info.target,
            remedy="fine-tune the teacher on this dataset",
        )
    if info.classes != data.classes:
        lacks = ", ".join(sorted(set(data.classes) - set(info.classes))) or "none"
        extra = ", ".join(sorted(set(info.classes) - set(data.classes))) or "none"
        raise ModelError(
            "the teacher must have the classes of the dataset's train split",
            got=f"missing in the teacher: {lacks}; only in the teacher: {extra}",
            remedy="fine-tune the teacher on this dataset",
        )
    return info


def teacher_logits(scorer: Scorer, tokens: Tokens, *, digest: str, context: StepContext) -> Logits:
    """Return the teacher's logits, computed once for the same teacher and rows and kept in the cache.

    :param scorer: the teacher.
    :param tokens: the train rows, as the teacher's tokenizer makes them.
    :param digest: the teacher's.
    :param context: the step.
    :return: ``(rows, outputs)``, mapped from a file.
    """
    content = hashlib.sha256(digest.encode())
    content.update(tokens.lengths.tobytes())
    for start in range(0, len(tokens), _CHUNK_ROWS):
        content.update(tokens.take(slice(start, start + _CHUNK_ROWS)).flat().tobytes())
    path = context.cache / "teacher_logits" / f"{content.hexdigest()}.npy"
    shape = (len(tokens), scorer.info.outputs)
    if path.exists():
        found: Logits = np.load(path, mmap_mode="r", allow_pickle=False)
        if found.shape == shape:
            context.log("the teacher's answers are in the cache")
            return found
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}.draft")
    target = np.lib.format.open_memmap(draft, mode="w+", dtype=np.float32, shape=shape)
    score_into(target, scorer, tokens, progress=context.progress)
    target.flush()
    del target
    draft.replace(path)
    result: Logits = np.load(path, mmap_mode="r", allow_pickle=False)
    return result
