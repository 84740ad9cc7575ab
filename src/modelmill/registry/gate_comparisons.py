"""What a gate compares of a challenger: with other models, baselines and floors, on the same test rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from modelmill.registry.approval import Approved, spent_at
from modelmill.registry.comparison import Comparison, NotJudged, must_be_zero, too_few
from modelmill.registry.contest import Contest, Contestant
from modelmill.registry.floors import floors
from modelmill.registry.gate_check import GateCheck
from modelmill.registry.gate_options import GateOptions
from modelmill.registry.metric_comparisons import (
    Answered,
    compare_metric,
    compare_parts,
    must_beat,
    must_keep,
    parts_by,
)
from modelmill.tasks.base import Answers
from modelmill.tasks.baselines import MAJORITY, MEAN

_MIN_CLASS_ROWS = 5
"""Of a class with fewer test rows nothing can be shown."""


Compared = Comparison | NotJudged


def without_lineage(missing: Sequence[str]) -> Comparison:
    """Return the refusal of a model that does not say where it comes from.

    :param missing: what it does not say, one phrase each.
    :return: the comparison.
    """
    return must_be_zero(
        "lineage",
        "lineage",
        "things that the model does not say of its origin",
        len(missing),
        note=f"missing: {'; '.join(missing)}. Make it with a pipeline, or log it with "
        "modelmill.registry.bundles.log_model",
    )


def _unfit(options: GateOptions, contest: Contest) -> Iterator[Comparison]:
    """Yield faults that no metric shows as what they are."""
    broken = int((~contest.challenger.scored).sum())
    if broken:
        yield must_be_zero(
            "scores", "scores", "rows whose scores are no numbers", broken, note="such a row has no answer"
        )
    reference = contest.reference
    if reference and not options.may_lose_classes:
        lost = [name for name in reference.info.classes if name not in contest.challenger.info.classes]
        if lost:
            note = f"{reference.name} answers {', '.join(lost[:20])}, and the challenger cannot"
            yield must_be_zero(
                "classes",
                "classes",
                "classes that are lost",
                len(lost),
                note=f"{note}: see may_lose_classes",
            )


def compared(
    options: GateOptions, checks: Sequence[GateCheck], contest: Contest, approved: Approved | None
) -> Iterator[Compared]:
    """Compare a challenger with everything.

    :param options: metric and limits.
    :param checks: further checks.
    :param contest: what is judged.
    :param approved: the champion that a person last approved, or the first one; None if there is none.
    :yields: comparisons, and what could not be judged.
    """
    yield from _unfit(options, contest)
    yield from _compared_models(options, contest, approved)
    baselines = contest.rows.baselines(contest.dataset)
    yield from _compared_baselines(options, contest, baselines)
    yield from floors(options, contest, baselines)
    yield from _compared_yardstick(options, contest)
    for check in checks:
        if contest.rows.task.exclusive or check.any_task:
            yield from check.compare(contest)
        else:
            yield _not_judged(check.check, check.check, contest)


def beside_models(options: GateOptions, contest: Contest, approved: Approved | None) -> Iterator[Compared]:
    """Compare a challenger with other models and with the floors, but with no baseline: none is fitted.

    :param options: metric and limits.
    :param contest: what is judged.
    :param approved: see :func:`compared`.
    :yields: comparisons, and what could not be judged.
    """
    yield from _unfit(options, contest)
    yield from _compared_models(options, contest, approved)
    yield from floors(options, contest, {})
    yield from _compared_yardstick(options, contest)


def _compared_models(options: GateOptions, contest: Contest, approved: Approved | None) -> Iterator[Compared]:
    for other in (contest.start, contest.champion):
        if other:
            yield compare_metric(
                other.name,
                contest.against(other),
                check="metric",
                metric=contest.rows.task.metric(options.metric),
                limit=options.max_drop,
                how=contest.how,
                proof=options.proof,
            )
    if contest.approved and approved:
        yield from _drift(contest, contest.approved, approved.look, options)


def _compared_yardstick(options: GateOptions, contest: Contest) -> Iterator[Compared]:
    if contest.yardstick and options.max_class_drop is not None:
        if contest.rows.task.exclusive:
            yield from _compared_classes(contest, contest.yardstick, limit=options.max_class_drop)
        else:
            yield _not_judged("class", f"classes, {contest.yardstick.name}", contest)


def _compared_baselines(
    options: GateOptions, contest: Contest, baselines: Mapping[str, Answers]
) -> Iterator[Compared]:
    metric = contest.rows.task.metric(options.metric)
    for name, answers in baselines.items():
        answered = Answered(contest.truth, answers, contest.challenger.answers)
        if options.beat_majority and name in (MAJORITY, MEAN):
            better = must_beat(name, answered, check="baseline", metric=metric, how=contest.how)
            if better.least_p <= 1 - options.confidence:
                yield better
                continue
            reason = "too small to judge: not even right answers to all rows would show it"
            yield NotJudged(
                check="baseline", name=f"better than {name}", rows=len(contest.rows), reason=reason
            )
        limit = options.max_below_baseline
        yield compare_metric(name, answered, check="baseline", metric=metric, limit=limit, how=contest.how)


def _drift(contest: Contest, approved: Contestant, look: int, options: GateOptions) -> Iterator[Compared]:
    """Compare with the last champion that a person approved, whatever small steps have been taken since."""
    budget, chance = options.max_drift or 0.0, 1 - options.confidence
    metric, rows = contest.rows.task.metric(options.metric), contest.against(approved)
    note = f"the last that a person approved, or the first champion; this is challenger {look} since"
    needed = math.ceil(math.log(spent_at(1, chance)) / math.log(1 - budget))
    if len(contest.rows) >= needed:
        alpha = spent_at(look, chance)
        found = must_keep(
            approved.name, rows, check="drift", metric=metric, budget=budget, alpha=alpha, how=contest.how
        )
        yield replace(found, note=note)
        return
    # So few rows cannot show it even of the same answers: then they must at least not show the contrary.
    yield too_few("drift", f"drop since {approved.name}", rows=len(contest.rows), needed=needed)
    if contest.champion is None or contest.champion.model.uri != approved.model.uri:
        found = compare_metric(
            approved.name, rows, check="drift", metric=metric, limit=budget, how=contest.how
        )
        yield replace(found, note=note)


def _compared_classes(contest: Contest, reference: Contestant, *, limit: float) -> Iterator[Compared]:
    known = dict.fromkeys(sorted({*reference.info.classes, *contest.challenger.info.classes}), ())
    yield from compare_parts(
        {**known, **parts_by(list(contest.truth))},
        reference.name,
        contest.against(reference),
        check="class",
        shown="recall",
        limit=limit,
        how=contest.how,
        min_rows=_MIN_CLASS_ROWS,
    )


def _not_judged(check: str, name: str, contest: Contest) -> NotJudged:
    reason = (
        f"it asks whether each row's one class is right, and {contest.label} holds {contest.rows.task.kind}"
    )
    return NotJudged(check=check, name=name, rows=len(contest.rows), reason=reason)
