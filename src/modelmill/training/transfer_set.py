"""Rows without labels: texts that a teacher answers, so that its student sees more than the labelled rows."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from modelmill.artifacts import DatasetRef, TableRef
from modelmill.component import StepContext
from modelmill.errors import DatasetError
from modelmill.tokens.cache import tokenised
from modelmill.tokens.token_ids import Tokens
from modelmill.training.loop import Encoded
from modelmill.training.soft_labels import UNKNOWN, Stacked
from modelmill.training.teaching import Lesson


def with_transfer(
    lesson: Lesson, table: TableRef, dataset: DatasetRef, context: StepContext, *, text: str, max_tokens: int
) -> Lesson:
    """Add the rows of a table to a lesson.

    Rows without a text are left out, and so are texts that the dataset has, whatever their split: a student
    must not see the texts that it is judged on.

    :param lesson: what is learned from labelled rows.
    :param table: the table; its labels, if it has any, are not read.
    :param dataset: where the labelled rows come from.
    :param context: the step.
    :param text: the table's column with the text.
    :param max_tokens: tokens of a text that the student reads.
    :return: the lesson with more rows.
    :raises DatasetError: if no row is left.
    """
    # A table read as a dataset whose key is the text itself.
    texts = DatasetRef(uri=table.uri, version=table.version, key=text, text=text, labels=(), split="")
    tokens = _tokens(texts, lesson.folder, max_tokens, context)
    known = _tokens(dataset, lesson.folder, max_tokens, context, skip_empty=False)
    seen = {row.tobytes() for row in known}
    places = []
    for place, row in enumerate(tokens):
        content = row.tobytes()
        if content not in seen:
            seen.add(content)
            places.append(place)
    if not places:
        raise DatasetError(
            "the table on the input transfer must have texts that the dataset has not",
            got=f"{len(tokens):,} rows with a text, none of them new ({table})",
            remedy="take the edge away, or give a table with other rows",
        )
    context.log(f"transfer: {len(places):,} of {len(tokens):,} texts without a label are new")
    context.run.log_metrics({"transfer_rows": float(len(places))})
    chosen = np.array(places, dtype=np.int64)
    targets = lesson.rows.targets
    unknown = np.full((len(chosen), *targets.shape[1:]), UNKNOWN[lesson.data.target], dtype=targets.dtype)
    rows = Encoded(
        Tokens.joined(lesson.rows.tokens, tokens.take(chosen)),
        np.concatenate([targets, unknown]),
        lesson.data.target,
    )
    answers = lesson.teacher.answers(texts, chosen, context, skip_empty=True)
    return dataclasses.replace(lesson, rows=rows, soft=Stacked(lesson.soft, answers, len(targets)))


def _tokens(
    dataset: DatasetRef, folder: Path, max_tokens: int, context: StepContext, *, skip_empty: bool = True
) -> Tokens:
    return tokenised(
        dataset,
        folder,
        max_length=max_tokens,
        cache=context.cache,
        log=context.log,
        skip_empty=skip_empty,
    )
