"""The gate's own checks: slices, latency, size, calibration."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from modelmill.errors import ConfigError
from modelmill.registry.comparison import Comparison, NotJudged, Unit, against_limit
from modelmill.registry.gate_check import GateCheck

if TYPE_CHECKING:
    from modelmill.models.scorer import Scorer
    from modelmill.registry.contest import Contest, Contestant
    from modelmill.registry.metric_comparisons import Statistics

_MOST_SLICES = 200
_MOST_SMALL = 50
"""Slices that are too small to judge, but are named all the same."""
_ROUNDS = 5
_CALIBRATION_RESAMPLES = 500


class SliceCheck(GateCheck):
    """No slice of the test rows may get worse than a limit."""

    check: Literal["slice"] = "slice"
    column: str = Field(description="Column of the dataset: each of its values is a slice.")
    max_drop: float = Field(0.05, ge=0, lt=1, description="Largest accepted drop of a slice's accuracy.")
    min_rows: int = Field(20, ge=1, description="Smaller slices are named in the report, and not judged.")

    def compare(self, contest: Contest) -> Iterator[Comparison | NotJudged]:
        """Compare the accuracy in each slice with the reference's.

        :param contest: what is judged.
        :yields: a comparison for each value of the column in any split, or that it has too few test rows.
        :raises ConfigError: if the column has too many values.
        :raises TableError: if the dataset has no such column.
        """
        from modelmill.registry.metric_comparisons import compare_parts

        reference = contest.yardstick
        if reference is None:
            return
        parts = self._parts(contest)
        small = [name for name, places in parts.items() if len(places) < self.min_rows]
        if len(parts) - len(small) > _MOST_SLICES:
            raise ConfigError(
                f"a column for slices has at most {_MOST_SLICES} values with {self.min_rows} test rows",
                got=f"{self.column}: {len(parts) - len(small)}",
                remedy="choose a coarser column, or raise min_rows",
            )
        unnamed = [parts.pop(name) for name in small[_MOST_SMALL:]]
        if unnamed:
            rows = sum(map(len, unnamed))
            name = f"{len(unnamed)} more values of {self.column}, {reference.name}"
            reason = f"too small to judge: {rows} test rows together, and each needs {self.min_rows}"
            yield NotJudged(check="slice", name=name, rows=rows, reason=reason)
        for found in compare_parts(
            parts,
            reference.name,
            contest.against(reference),
            check="slice",
            shown="accuracy",
            limit=self.max_drop,
            how=contest.how,
            min_rows=self.min_rows,
        ):
            name = f"{self.column} {found.name.removeprefix('slice ')}"
            if isinstance(found, NotJudged):
                yield found.model_copy(update={"name": name})
            else:
                yield replace(found, name=name)

    def _parts(self, contest: Contest) -> dict[str, list[int]]:
        """Return the places of the test rows of each value of the column; of some values none."""
        import pyarrow.compute as pc

        from modelmill.registry.metric_comparisons import parts_by
        from modelmill.tables.reading import read_arrow

        dataset = contest.dataset
        table = read_arrow(dataset, columns=list(dict.fromkeys([self.column, dataset.split])))
        everywhere = parts_by(pc.unique(table.column(self.column)).to_pylist())
        here = parts_by(contest.test_rows(table).column(self.column).to_pylist())
        return {name: here.get(name, []) for name in {**everywhere, **here}}


class LatencyCheck(GateCheck):
    """The exported file answers single texts fast enough, measured here side by side with the reference."""

    any_task: ClassVar[bool] = True
    check: Literal["latency"] = "latency"
    max_ms: float | None = Field(None, gt=0, description="Largest accepted p95 of one text, in ms.")
    max_ratio: float | None = Field(
        None, gt=0, description="Largest accepted ratio to the champion's p95 (to the parent's without one)."
    )
    rows: int = Field(200, ge=20, description="Test rows that are timed, one at a time.")

    @model_validator(mode="after")
    def _some_limit(self) -> Self:
        if self.max_ms is None and self.max_ratio is None:
            raise ValueError("at least one of max_ms and max_ratio is needed")
        return self

    def compare(self, contest: Contest) -> Iterator[Comparison]:
        """Time single texts, the challenger and the reference in turns.

        :param contest: what is judged.
        :yields: a comparison for each limit.
        """
        from modelmill.models.scorers import load_scorer

        reference = contest.reference if self.max_ratio is not None else None
        contestants = [one for one in (contest.challenger, reference) if one]
        count = min(self.rows, len(contest.texts))
        chosen = np.random.default_rng(0).choice(len(contest.texts), size=count, replace=False)
        texts = [contest.texts[place] for place in chosen]
        contest.log(f"timing {count} texts one at a time")
        scorers = [load_scorer(one.folder, threads=1) for one in contestants]
        for scorer in scorers:
            scorer.logits(texts[:10])  # first calls allocate memory
        rounds = [[_p95(scorer, texts) for scorer in scorers] for _ in range(_ROUNDS)]
        # A machine's speed drifts while it is measured: the median over rounds in which they take turns.
        times = [float(value) for value in np.median(rounds, axis=0)]
        own = _against_accepted("latency", "p95 of one text", times[0], self.max_ms, unit="ms")
        if self.max_ms is not None:
            yield own
        if self.max_ratio is not None and reference is not None:
            yield _against_reference(own, reference, times[1], self.max_ratio)


def _p95(scorer: Scorer, texts: list[str]) -> float:
    """Return the 95th percentile of the time for one text, in ms."""
    times = []
    for text in texts:
        began = time.perf_counter()
        scorer.logits([text])
        times.append(time.perf_counter() - began)
    return float(np.quantile(times, 0.95)) * 1000


class SizeCheck(GateCheck):
    """The exported file is small enough."""

    any_task: ClassVar[bool] = True
    check: Literal["size"] = "size"
    max_mb: float | None = Field(None, gt=0, description="Largest accepted size, in millions of bytes.")
    max_ratio: float | None = Field(
        None, gt=0, description="Largest accepted ratio to the champion's size (to the parent's without one)."
    )

    @model_validator(mode="after")
    def _some_limit(self) -> Self:
        if self.max_mb is None and self.max_ratio is None:
            raise ValueError("at least one of max_mb and max_ratio is needed")
        return self

    def compare(self, contest: Contest) -> Iterator[Comparison]:
        """Weigh the exported file.

        :param contest: what is judged.
        :yields: a comparison for each limit.
        """
        from modelmill.models.bundle import bundle_bytes

        reference = contest.reference
        megabytes = [bundle_bytes(one.folder) / 1e6 for one in (contest.challenger, reference) if one]
        own = _against_accepted("size", "size", megabytes[0], self.max_mb, unit="MB")
        if self.max_mb is not None:
            yield own
        if self.max_ratio is not None and reference is not None:
            yield _against_reference(own, reference, megabytes[1], self.max_ratio)


def _against_accepted(
    check: str, metric: str, value: float, limit: float | None, *, unit: Unit
) -> Comparison:
    return against_limit(check, f"accepted {check}", metric, value, limit=limit or 0.0, unit=unit)


def _against_reference(own: Comparison, reference: Contestant, other: float, ratio: float) -> Comparison:
    return replace(
        own,
        name=reference.name,
        other=other,
        worse=own.challenger - other,
        limit=(ratio - 1) * other,
    )


class CalibrationCheck(GateCheck):
    """The probabilities mean what they say: expected calibration error on the test rows."""

    check: Literal["calibration"] = "calibration"
    max_error: float | None = Field(None, gt=0, lt=1, description="Largest accepted calibration error.")
    max_increase: float = Field(
        0.02, ge=0, lt=1, description="Largest accepted increase over the champion's (parent's without one)."
    )
    bins: int = Field(15, ge=2, le=100, description="Bins of equally many rows.")

    def compare(self, contest: Contest) -> list[Comparison]:
        """Compare expected calibration errors with a limit, and with the reference's.

        :param contest: what is judged.
        :return: a comparison for each limit.
        """
        reference = contest.yardstick
        contestants = [one for one in (contest.challenger, reference) if one]
        return self.compare_errors(
            [one.confidence for one in contestants],
            [(one.answers == contest.truth).astype(np.float64) for one in contestants],
            reference=reference.name if reference else None,
            how=contest.how,
        )

    def compare_errors(
        self,
        confidences: list[np.ndarray],
        right: list[np.ndarray],
        *,
        reference: str | None,
        how: Statistics,
    ) -> list[Comparison]:
        """Compare expected calibration errors.

        The rows are cut into bins of equally many by each model's own confidence; the error is the mean
        distance of confidence and share of right answers over the bins (M. P. Naeini et al., *AAAI*, 2015).

        :param confidences: of the challenger and, if there is one, of the other: the probability of the
            answer that was given, ``(rows,)`` each.
        :param right: whether the answers are right, ``(rows,)`` each.
        :param reference: the other; None if there is none.
        :param how: confidence and resamples.
        :return: a comparison for each limit.
        """
        rows = len(right[0])
        gaps = [_gaps(one, answers, self.bins) for one, answers in zip(confidences, right, strict=True)]
        errors = [float(np.abs(gap.sum(0)).sum() / rows) for gap in gaps]
        found = []
        if self.max_error is not None:
            found.append(
                against_limit(
                    "calibration",
                    "accepted calibration error",
                    "calibration error",
                    errors[0],
                    limit=self.max_error,
                    rows=rows,
                )
            )
        if reference is not None:
            drawn = np.random.default_rng(0).multinomial(
                rows, np.full(rows, 1 / rows), size=min(how.resamples, _CALIBRATION_RESAMPLES)
            )
            first, second = (np.abs(drawn @ gap).sum(1) / rows for gap in gaps)  # (resamples,)
            low, high = np.quantile(first - second, [(1 - how.confidence) / 2, (1 + how.confidence) / 2])
            found.append(
                Comparison(
                    check="calibration",
                    name=reference,
                    metric="calibration error",
                    unit="share",
                    challenger=errors[0],
                    other=errors[1],
                    worse=errors[0] - errors[1],
                    limit=self.max_increase,
                    low=float(low),
                    high=float(high),
                    p_value=float(((first - second) <= 0).sum() + 1) / (len(drawn) + 1),
                    rows=rows,
                )
            )
        return found


def _gaps(confidence: np.ndarray, right: np.ndarray, bins: int) -> np.ndarray:
    """Return confidence minus rightness of each row in the column of its bin, ``(rows, bins)``."""
    rows = len(right)
    place = np.empty(rows, dtype=np.int64)
    place[np.argsort(confidence, kind="stable")] = np.arange(rows) * bins // rows
    table = np.zeros((rows, bins))
    table[np.arange(rows), place] = confidence - right
    return table
