"""The rows that a student learns from, with its teacher's logits; more rows without labels can be added."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from modelmill.errors import DatasetError
from modelmill.tasks.examples import LabelledData
from modelmill.tokens.texts import Texts
from modelmill.tokens.token_ids import Tokens
from modelmill.training.rows import EncodedRows
from modelmill.training.soft_labels import ConcatenatedLogits, TeacherLogits
from modelmill.training.teacher import Teacher
from modelmill.workspace import Workspace


@dataclass(frozen=True)
class DistillationData:
    """What a student learns."""

    data: LabelledData
    teacher: Teacher
    tokenizer_folder: Path
    """Folder with the student's ``tokenizer.json``."""
    max_tokens: int
    """Tokens of a text that the student reads, its lexical head included."""
    encoder_tokens: int
    """Tokens that its encoder reads."""
    rows: EncodedRows
    """Train rows as the student's tokenizer makes them, ``max_tokens`` long."""
    soft: TeacherLogits
    """The teacher's logits for the same rows, ``(rows, outputs)``."""
    validation: EncodedRows | None
    """None without validation rows."""


def distillation_data(
    data: LabelledData,
    texts: Texts,
    teacher: Teacher,
    workspace: Workspace,
    *,
    tokenizer_folder: Path,
    max_tokens: int,
    encoder_tokens: int,
) -> DistillationData:
    """Tokenise rows for a student, and compute its teacher's logits.

    :param data: labelled rows of the texts.
    :param texts: all texts.
    :param teacher: the model that the student learns from.
    :param workspace: its cache keeps the logits.
    :param tokenizer_folder: folder with the student's ``tokenizer.json``.
    :param max_tokens: tokens of a text that the student reads, its lexical head included.
    :param encoder_tokens: tokens that its encoder reads.
    :return: what it learns.
    """
    tokens = texts.tokens(tokenizer_folder, max_tokens=max_tokens)
    return DistillationData(
        data=data,
        teacher=teacher,
        tokenizer_folder=tokenizer_folder,
        max_tokens=max_tokens,
        encoder_tokens=encoder_tokens,
        rows=EncodedRows.of(tokens, data.train, target=data.target),
        soft=teacher.logits(texts, data.train.places, workspace),
        validation=EncodedRows.of(tokens, data.validation, target=data.target)
        if len(data.validation)
        else None,
    )


def with_transfer(
    learned: DistillationData, transfer: Texts, texts: Texts, workspace: Workspace
) -> DistillationData:
    """Add texts without labels, which the teacher answers.

    A text that is already among the labelled ones is left out, whatever its split: a student must not learn
    from the texts on which it is measured.

    :param learned: what the student learns from labelled rows.
    :param transfer: texts without labels.
    :param texts: all texts of the labelled dataset.
    :param workspace: its cache keeps the teacher's logits.
    :return: the same with more rows.
    :raises DatasetError: if no text is left.
    """
    tokens, known = (
        some.tokens(learned.tokenizer_folder, max_tokens=learned.max_tokens) for some in (transfer, texts)
    )
    places = _new_places(tokens, known)
    if not len(places):
        raise DatasetError(
            "the table on the input transfer must have texts that the dataset has not",
            got=f"{len(tokens):,} rows with a text, none of them new ({transfer})",
            remedy="remove this edge, or give a table with other rows",
        )
    workspace.log(f"transfer: {len(places):,} of {len(tokens):,} texts without a label are new")
    workspace.tracker.log_metrics({"transfer_rows": float(len(places))})
    targets, data = learned.rows.targets, learned.data
    unlabelled = data.task.unlabelled(len(places), data.classes)
    rows = EncodedRows(
        Tokens.joined(learned.rows.tokens, tokens.take(places)),
        np.concatenate([targets, unlabelled]),
        data.target,
    )
    logits = learned.teacher.logits(transfer, places, workspace)
    return dataclasses.replace(
        learned, rows=rows, soft=ConcatenatedLogits(learned.soft, logits, len(targets))
    )


def _new_places(tokens: Tokens, known: Tokens) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the places of rows that are not among the known ones, of equal rows the first."""
    seen = {row.tobytes() for row in known}
    places = []
    for place, row in enumerate(tokens):
        content = row.tobytes()
        if content not in seen:
            seen.add(content)
            places.append(place)
    return np.array(places, dtype=np.int64)
