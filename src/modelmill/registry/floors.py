"""What every champion has to reach, the first one too, whatever it is compared with.

A floor is no comparison with another model, so it is not adjusted for the number of comparisons: a challenger
is refused where its rows show at the gate's confidence that it lies below. A class with so few test rows that
not even wrong answers to all of them would show it is not judged, and the report says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from modelmill.registry.comparison import Comparison, NotJudged, right_share, too_few
from modelmill.registry.contest import Contest
from modelmill.registry.gate_options import GateOptions
from modelmill.registry.metric_comparisons import Answered, compare_metric
from modelmill.tasks.base import Answers
from modelmill.tasks.baselines import MEAN

_BIN_ROWS = 50
"""Rows that a bin of probabilities has at least."""
_MOST_BINS = 15
_DRAWS = 1000
_EACH = 2_000_000
"""Draws that are held in memory at a time."""


def floors(
    options: GateOptions, contest: Contest, baselines: dict[str, Answers]
) -> Iterator[Comparison | NotJudged]:
    """Compare a challenger with the floors of its kind of label.

    :param options: the floors.
    :param contest: what is judged.
    :param baselines: answers to the rows by name of the baseline.
    :yields: a comparison for each floor, or that there are too few rows for one.
    """
    task, alpha = contest.rows.task, 1 - options.confidence
    if options.min_recall is not None and task.has_classes:
        yield from _recalls(contest, least=options.min_recall, alpha=alpha)
    if options.max_calibration_error is not None and task.has_classes:
        probabilities, right = _probabilities(contest)
        yield calibration_floor(probabilities, right, limit=options.max_calibration_error, alpha=alpha)
    if not task.has_classes:
        if options.max_bias is not None:
            yield _bias(contest, limit=options.max_bias, alpha=alpha)
        if options.beat_majority and MEAN in baselines:
            yield from _quarters(contest, baselines[MEAN])


def _recalls(contest: Contest, *, least: float, alpha: float) -> Iterator[Comparison | NotJudged]:
    """Compare the share of right answers among the rows of each class with a floor."""
    task, answers = contest.rows.task, contest.challenger.answers
    needed = math.ceil(math.log(alpha) / math.log(1 - least)) if 0 < least < 1 else 1
    for place, name in enumerate(contest.rows.classes):
        own = contest.truth == name if task.exclusive else contest.truth[:, place] > 0
        rows = int(own.sum())
        if not rows:
            continue
        if rows < needed:
            yield too_few("recall", f"class {name}", rows=rows, needed=needed)
            continue
        given = answers[own] == name if task.exclusive else answers[own, place] > 0
        hits = int(given.sum())
        yield right_share("recall", f"class {name}", "recall", hits, rows=rows, least=least, alpha=alpha)


def _probabilities(contest: Contest) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Return probabilities, and whether what they were given to is so: an answer, or each class of a set."""
    one, task = contest.challenger, contest.rows.task
    if task.exclusive:
        return one.confidence, np.asarray(one.answers == contest.truth, dtype=bool)
    plain = np.where(one.scored[:, None], one.logits, 0.0).astype(np.float32)
    places = [contest.rows.classes.index(name) for name in one.info.classes]
    found = task.probabilities(plain, one.info.calibration).astype(np.float64)
    return found.ravel(), np.asarray(contest.truth[:, places] > 0).ravel()


def calibration_floor(
    probabilities: npt.NDArray[np.float64], right: npt.NDArray[np.bool_], *, limit: float, alpha: float
) -> Comparison:
    """Compare the expected calibration error with a limit.

    Of few rows the error is above zero by chance alone. It is compared with what as many rows would show if
    every probability were off by just the limit (consistency resampling: J. Bröcker and L. A. Smith, *Weather
    and Forecasting* 22, 2007).

    :param probabilities: ``(rows,)``.
    :param right: whether what they were given to is so.
    :param limit: largest accepted error.
    :param alpha: chance at which the error counts as larger.
    :return: the comparison.
    """
    count = len(right)
    bins = min(max(count // _BIN_ROWS, 1), _MOST_BINS)
    order = np.argsort(probabilities, kind="stable")
    starts = np.arange(bins) * count // bins
    sorted_ = probabilities[order]

    def errors(hits: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
        gaps = np.add.reduceat(sorted_ - hits, starts, axis=-1)
        found: npt.NDArray[np.float64] = np.abs(gaps).sum(-1) / count
        return found

    measured = float(errors(right[order][None, :])[0])
    sure = -limit if probabilities.mean() > right.mean() else limit
    shifted, rng = np.clip(sorted_ + sure, 0, 1), np.random.default_rng(0)
    as_large, drawn = 0, 0
    while drawn < _DRAWS:
        size = min(max(_EACH // count, 1), _DRAWS - drawn)
        as_large += int((errors(rng.random((size, count)) < shifted) >= measured).sum())
        drawn += size
    return Comparison(
        check="floor",
        name="calibration error",
        metric="calibration error",
        unit="share",
        challenger=measured,
        other=None,
        worse=measured,
        limit=limit,
        p_value=(as_large + 1) / (_DRAWS + 1),
        alpha=alpha,
        rows=count,
        note="how far probabilities are from the shares of right answers",
    )


def _bias(contest: Contest, *, limit: float, alpha: float) -> Comparison:
    """Compare how far answers are off on the average with a limit, in standard deviations of the labels."""
    from scipy.stats import norm

    errors = (contest.challenger.answers - contest.truth)[:, 0]
    spread = float(contest.truth.std()) or 1.0
    bias, error = abs(float(errors.mean())) / spread, float(errors.std()) / spread / math.sqrt(len(errors))
    way = "high" if errors.mean() > 0 else "low"
    return Comparison(
        check="floor",
        name="bias",
        metric="mean error in standard deviations of the labels",
        unit="score",
        challenger=bias,
        other=None,
        worse=bias,
        limit=limit,
        p_value=float(norm.sf((bias - limit) / error)) if error else float(bias <= limit),
        alpha=alpha,
        rows=len(errors),
        note=f"answers are {abs(float(errors.mean())):.3g} too {way} on the average",
    )


def _quarters(contest: Contest, mean: Answers) -> Iterator[Comparison | NotJudged]:
    """Compare with the mean where it is easy to beat: on the lowest and on the highest labels."""
    task, truth = contest.rows.task, contest.truth[:, 0]
    low, high = np.quantile(truth, [0.25, 0.75])
    if low == high:
        reason = "more than half of the labels are one number"
        yield NotJudged(check="quarter", name="lowest and highest quarter", rows=len(truth), reason=reason)
        return
    every = Answered(contest.truth, mean, contest.challenger.answers)
    for name, chosen in (("lowest", truth <= low), ("highest", truth >= high)):
        yield compare_metric(
            f"the {name} quarter of labels, {MEAN}",
            every.take(np.flatnonzero(chosen).tolist()),
            check="quarter",
            metric=task.metric("mae"),
            limit=0.0,
            how=contest.how,
        )
