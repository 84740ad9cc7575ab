"""Work on a batch of rows in a worker of the engine: votes, labels, rows for review."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from modelmill.labels.models import LabelModel, most_probable, uncertainty
from modelmill.labels.report import is_sure
from modelmill.labels.votes import Fired, Floats, Functions, votes_by_class
from modelmill.options import Record
from modelmill.tokens.contents import BLANKS

if TYPE_CHECKING:
    import pyarrow as pa

    from modelmill.rules.language.program import Program

REASONS = ("gold differs", "unsure", "conflict")
"""Why a row is to be reviewed, the strongest reason first."""


class Labelling(Record):
    """How a table is labelled. It is small: it is sent to the workers."""

    names: tuple[str, ...]
    conditions: tuple[str, ...]
    """When each function votes: SQL."""
    labels: tuple[str, ...]
    """What each function votes for."""
    label: str
    """Name of the label column."""
    threshold: float
    model: LabelModel | None = None
    """None if only votes are needed."""

    @property
    def functions(self) -> Functions:
        """The functions without their conditions."""
        return Functions(self.names, self.labels)

    def label_columns(self) -> tuple[str, str, str]:
        """Columns that a labelled row gets."""
        return (self.label, f"{self.label}_source", f"{self.label}_probability")

    def review_columns(self) -> tuple[str, ...]:
        """Columns that a row for review gets, without the rank."""
        parts = ("suggested", "suggested_probability", "votes", "reason", "uncertainty")
        return tuple(f"{self.label}_{part}" for part in parts)

    @property
    def rank_column(self) -> str:
        """Column with the place of a row for review, from 1."""
        return f"{self.label}_rank"


def vote_batches(batches: Iterable[pa.RecordBatch], *, labelling: Labelling) -> Iterator[pa.RecordBatch]:
    """Let the functions vote.

    :param batches: the columns that they read; the last column is the gold label, as text.
    :param labelling: how the table is labelled.
    :yields: ``pattern``, a text of ``0`` and ``1``, and ``gold``.
    """
    import pyarrow as pa

    voters = _Voters(labelling)
    for batch in batches:
        fired = voters.fired(batch)  # (rows, functions)
        digits = np.ascontiguousarray(fired + np.uint8(ord("0")), dtype=np.uint8)
        patterns = digits.view(f"S{fired.shape[1]}")[:, 0].tolist()
        yield pa.RecordBatch.from_arrays(
            [pa.array(patterns, pa.binary()).cast(pa.string()), gold_labels(batch)], names=["pattern", "gold"]
        )


def label_batches(batches: Iterable[pa.RecordBatch], *, labelling: Labelling) -> Iterator[pa.RecordBatch]:
    """Label rows. A gold label wins over every function.

    :param batches: the table's columns; the last column is the gold label, as text.
    :param labelling: how the table is labelled; with a model.
    :yields: the table's columns without one of the label's name, then :meth:`Labelling.label_columns`.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    voters, plan = _Voters(labelling), labelling
    for batch in batches:
        answer = voters.answer(batch)
        gold = gold_labels(batch)
        has_gold = pc.is_valid(gold)
        guess = pc.if_else(answer.sure, answer.label, pa.scalar(None, pa.string()))
        by_rule = pc.if_else(pc.is_valid(guess), pa.scalar("rule"), pa.scalar(None, pa.string()))
        label = pc.coalesce(gold, guess)
        source = pc.if_else(has_gold, pa.scalar("gold"), by_rule)
        sure = pc.if_else(pc.is_valid(guess), answer.probability, pa.scalar(None, pa.float64()))
        probability = pc.if_else(has_gold, pa.scalar(1.0), sure)
        kept = [name for name in batch.schema.names[:-1] if name != plan.label]
        arrays = [batch.column(name) for name in kept]
        yield pa.RecordBatch.from_arrays(
            [*arrays, label, source, probability], names=[*kept, *plan.label_columns()]
        )


def review_batches(batches: Iterable[pa.RecordBatch], *, labelling: Labelling) -> Iterator[pa.RecordBatch]:
    """Keep the rows that a person should see, each with the votes on it.

    :param batches: the table's columns; the last column is the gold label, as text.
    :param labelling: how the table is labelled; with a model.
    :yields: the table's columns, then :meth:`Labelling.review_columns`.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    voters, plan = _Voters(labelling), labelling
    for batch in batches:
        answer = voters.answer(batch)
        gold = gold_labels(batch)
        voted = pa.array(answer.fired.any(axis=1))
        conflict = pa.array((votes_by_class(answer.fired, plan.functions) > 0).sum(axis=1) > 1)
        no = pa.scalar(None, pa.string())
        rule = pc.case_when(
            pc.make_struct(pc.and_(voted, pc.invert(answer.sure)), conflict),
            pa.scalar(REASONS[1]),
            pa.scalar(REASONS[2]),
            no,
        )
        # A person has labelled these: they are of use only where functions and person differ.
        differs = pc.and_(answer.sure, pc.not_equal(answer.label, gold))
        against = pc.if_else(pc.fill_null(differs, pa.scalar(False)), pa.scalar(REASONS[0]), no)
        reason = pc.if_else(pc.is_valid(gold), against, rule)
        arrays = [*batch.columns[:-1], answer.label, answer.probability]
        arrays += [voters.shown(answer.fired), reason, pa.array(answer.uncertainty)]
        found = pa.RecordBatch.from_arrays(arrays, names=[*batch.schema.names[:-1], *plan.review_columns()])
        yield found.filter(pc.is_valid(reason))


def gold_labels(batch: pa.RecordBatch) -> pa.Array:
    """Return the gold labels of a batch, its last column, without blanks around them; a blank one is none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    gold = pc.utf8_trim(batch.column(batch.num_columns - 1).cast(pa.string()), characters=BLANKS)
    return pc.if_else(pc.equal(gold, ""), pa.scalar(None, pa.string()), gold)


class _Answer:
    """What the model says of the rows of a batch."""

    def __init__(self, plan: Labelling, model: LabelModel, fired: Fired) -> None:
        import pyarrow as pa

        probabilities = model.probabilities(fired)  # (rows, classes)
        numbers = most_probable(probabilities, model.balance) if len(fired) else np.zeros(0, np.int64)
        silent = ~fired.any(axis=1)
        # Rounded: two engines' batches must not differ in the last digit of a sum.
        chosen: Floats = np.round(probabilities[np.arange(len(fired)), numbers], 9)
        self.fired = fired
        self.label = pa.array(np.array(model.classes, dtype=object)[numbers], pa.string(), mask=silent)
        self.probability = pa.array(chosen, pa.float64(), mask=silent)
        self.sure = pa.array(is_sure(chosen, plan.threshold) & ~silent)
        self.uncertainty: Floats = np.round(uncertainty(probabilities), 9)


class _Voters:
    """The functions, compiled against the first batch's schema."""

    def __init__(self, plan: Labelling) -> None:
        self.plan = plan
        self._conditions: Mapping[str, str] = {
            str(number): text for number, text in enumerate(plan.conditions)
        }
        self._program: Program | None = None

    def fired(self, batch: pa.RecordBatch) -> Fired:
        """Return which functions vote, ``(rows, functions)``: those whose condition is true, not unknown."""
        import pyarrow.compute as pc

        from modelmill.rules.language.expressions import compile_expressions

        if self._program is None:
            self._program = compile_expressions(self._conditions, batch.schema, kind="boolean")
        found = self._program.evaluate(batch)
        columns = [
            pc.fill_null(found[number], False).to_numpy(zero_copy_only=False) for number in self._conditions
        ]
        votes: Fired = np.stack(columns, axis=1).astype(np.bool_)
        return votes

    def answer(self, batch: pa.RecordBatch) -> _Answer:
        """Return what the model says."""
        if self.plan.model is None:
            raise ValueError("rows are labelled by a model")
        return _Answer(self.plan, self.plan.model, self.fired(batch))

    def shown(self, fired: Fired) -> Any:
        """Return the votes on each row as a map from the function's name to its label."""
        import pyarrow as pa

        _, functions = np.nonzero(fired)  # row by row
        offsets = np.concatenate([[0], np.cumsum(fired.sum(axis=1))])
        keys = pa.array([self.plan.names[number] for number in functions], pa.string())
        values = pa.array([self.plan.labels[number] for number in functions], pa.string())
        return pa.MapArray.from_arrays(pa.array(offsets, pa.int32()), keys, values)
