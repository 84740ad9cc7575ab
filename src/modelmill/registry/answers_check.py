"""The gate's check against a labeller whose answers are a column, such as a language model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from modelmill.registry.comparison import Comparison, NotJudged, right_share, too_few
from modelmill.registry.gate_check import GateCheck

if TYPE_CHECKING:
    from modelmill.registry.contest import Contest
    from modelmill.registry.metric_comparisons import Answered, Statistics

GOLD = "gold"
"""What label_by_llm and label_rows write as the source of a label by hand."""
_BY_HAND = "labels by hand"


class AnswersCheck(GateCheck):
    """Test rows with a label by hand are answered as rightly as by a labeller, such as a language model."""

    check: Literal["answers"] = "answers"
    column: str = Field(
        description="Column of the dataset with the labeller's answers, such as topic_answer of "
        "label_by_llm; rows without one are not compared."
    )
    source: str | None = Field(
        None,
        description="Column that says where a row's label is from, such as topic_source: only rows that say "
        "gold are compared. Empty: all test rows have labels by hand.",
    )
    max_drop: float = Field(
        0.005,
        ge=0,
        lt=1,
        description="How much less often than the labeller the model may be right (0.005: half a point).",
    )
    proof: bool = Field(
        False,
        description="Also refuse where the rows are too few to show that it is right often enough.",
    )
    min_accuracy: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Smallest accepted share of right answers on all rows with a label by hand; empty: any.",
    )
    min_rows: int = Field(
        20, ge=1, description="With fewer rows nothing is compared, and the report says so."
    )

    def compare(self, contest: Contest) -> Iterator[Comparison | NotJudged]:
        """Compare with the labeller, and with the labels by hand.

        :param contest: what is judged.
        :yields: a comparison for each limit, or that there are too few rows.
        :raises TableError: if the dataset has no such column.
        """
        from modelmill.registry.metric_comparisons import Answered
        from modelmill.tables.reading import read_arrow

        dataset = contest.dataset
        names = [self.column, dataset.split, *([self.source] if self.source else [])]
        table = contest.test_rows(read_arrow(dataset, columns=list(dict.fromkeys(names))))
        answers = np.empty(len(contest.rows), dtype=object)
        answers[:] = [None if one is None else str(one) for one in table.column(self.column).to_pylist()]
        rows = Answered(contest.truth, answers, contest.challenger.answers)
        if self.source is not None:
            sources = table.column(self.source).to_pylist()
            rows = rows.take([place for place, source in enumerate(sources) if source == GOLD])
        yield from self.compare_rows(rows, how=contest.how)

    def compare_rows(self, rows: Answered, *, how: Statistics) -> Iterator[Comparison | NotJudged]:
        """Compare answers to rows with a label by hand.

        :param rows: with the labeller's answers as the other's; None where there is none.
        :param how: confidence and resamples.
        :yields: a comparison for each limit, or that there are too few rows.
        """
        from modelmill.registry.metric_comparisons import compare_metric
        from modelmill.tasks.class_metrics import ACCURACY

        name, count = f"labeller {self.column}", len(rows.truth)
        places = [place for place, answer in enumerate(rows.other) if answer is not None]
        if len(places) < self.min_rows:
            yield too_few(self.check, name, rows=len(places), needed=self.min_rows)
        else:
            found = compare_metric(
                name,
                rows.take(places),
                check=self.check,
                metric=ACCURACY,
                limit=self.max_drop,
                how=how,
                proof=self.proof,
            )
            note = f"{len(places):,} of {count:,} test rows with a label by hand have an answer there"
            yield replace(found, note=note)
        if self.min_accuracy is None:
            return
        if count < self.min_rows:
            yield too_few(self.check, _BY_HAND, rows=count, needed=self.min_rows)
            return
        yield right_share(
            self.check,
            _BY_HAND,
            "accuracy on labels by hand",
            int((rows.challenger == rows.truth).sum()),
            rows=count,
            least=self.min_accuracy,
            alpha=1 - how.confidence,
        )
