"""What a student learns of its teacher besides the answers: chosen by the type of the objective's options."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from modelmill.errors import ModelError
from modelmill.models.classifier import Classifier, load_classifier
from modelmill.tokens.token_ids import Tokens
from modelmill.tokens.tokenizer import tokenizer_digest
from modelmill.training.losses import Loss
from modelmill.training.options import ObjectiveOptions, Relations, SoftLabels
from modelmill.training.relations import relation_loss
from modelmill.training.teacher import Teacher


def objective_loss(
    options: ObjectiveOptions,
    student: Classifier,
    teacher: Teacher,
    tokens: Tokens,
    *,
    tokenizer_folder: Path,
    max_tokens: int,
) -> contextlib.AbstractContextManager[Loss | None]:
    """Return the loss that is added to that of the answers.

    :param options: the objective.
    :param student: the model that is trained.
    :param teacher: the model that it learns from.
    :param tokens: the train rows, as the student's encoder reads them.
    :param tokenizer_folder: folder with the student's ``tokenizer.json``.
    :param max_tokens: tokens of a text that the student's encoder reads.
    :return: a context in which the loss can be used; None: no further loss.
    """
    make = _OBJECTIVES[type(options)]
    return make(options, student, teacher, tokens, tokenizer_folder=tokenizer_folder, max_tokens=max_tokens)


@contextlib.contextmanager
def _soft_labels(*_arguments: Any, **_limits: Any) -> Iterator[Loss | None]:
    yield None


@contextlib.contextmanager
def _relations(
    options: Relations,
    student: Classifier,
    teacher: Teacher,
    tokens: Tokens,
    *,
    tokenizer_folder: Path,
    max_tokens: int,
) -> Iterator[Loss | None]:
    if tokenizer_digest(teacher.folder) != tokenizer_digest(tokenizer_folder):
        raise ModelError(
            "teacher and student must have the same tokenizer where relations between tokens are learned",
            got=f"another tokenizer.json in {teacher.name}",
            remedy="set objective: {kind: soft_labels}, or take a teacher with the student's tokenizer",
        )
    limit = teacher.info.encoder_tokens or teacher.info.max_tokens
    if max_tokens > limit:
        raise ModelError(
            f"a teacher of relations must read as many tokens as its student, {max_tokens}",
            got=limit,
            remedy=f"lower max_tokens to at most {limit}",
        )
    with relation_loss(options, student, load_classifier(teacher.folder), tokens) as loss:
        yield loss


_OBJECTIVES: Mapping[type[Any], Callable[..., contextlib.AbstractContextManager[Loss | None]]] = {
    SoftLabels: _soft_labels,
    Relations: _relations,
}
