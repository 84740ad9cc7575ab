"""What a verdict shows beside its checks: what each step of the chain cost, classes, mistakes, worst rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from modelmill.registry.contest import Contest, Contestant
from modelmill.registry.gate_options import GateOptions
from modelmill.registry.gate_report import ChainLink, ClassLine, WrongTestRow
from modelmill.registry.metric_comparisons import unit_of
from modelmill.registry.tracking import free_name
from modelmill.registry.verdict import CheckResult
from modelmill.tables.reading import read_arrow
from modelmill.tasks.class_metrics import class_quality
from modelmill.tokens.contents import CONTENTS

_SHOWN_MISTAKES = 10
SHOWN_LETTERS = 300


def chain_costs(contest: Contest, options: GateOptions) -> tuple[ChainLink, ...]:
    """Return what each step of the challenger's chain cost."""
    metric, links = contest.rows.task.metric(options.metric), []
    confidence, resamples = options.confidence, options.resamples
    before: Contestant | None = None
    for one in contest.chain:
        value = metric.interval(contest.truth, one.answers, confidence=confidence, resamples=resamples)
        cost = (
            metric.difference(
                contest.truth, before.answers, one.answers, confidence=confidence, resamples=resamples
            )
            if before
            else None
        )
        links.append(
            ChainLink(
                role=one.model.role,
                uri=one.model.uri,
                metric=metric.title,
                unit=unit_of(metric),
                value=value.value,
                low=value.low,
                high=value.high,
                cost=cost.value if cost else None,
                cost_low=cost.low if cost else None,
                cost_high=cost.high if cost else None,
            )
        )
        before = one
    return tuple(links)


def answer_details(contest: Contest) -> dict[str, Any]:
    """Return what the page shows of the challenger's answers: classes, confusions, and the worst rows."""
    task, truth, one = contest.rows.task, contest.truth, contest.challenger
    if task.exclusive:
        wrong = np.flatnonzero(one.answers != truth)
        order = wrong[np.argsort(-one.confidence[wrong], kind="stable")]
        names = [str(name) for name in one.answers]
        score = one.confidence
    elif not task.has_classes:
        order = np.argsort(-np.abs(one.answers - truth)[:, 0], kind="stable")
        score = one.answers[:, 0]
        names = [f"{value:.4g}" for value in score]
    else:
        return {}
    worst = order[:_SHOWN_MISTAKES].tolist()
    mistakes = [
        WrongTestRow(
            key=key,
            text=CONTENTS[contest.rows.rows.content].shown(contest.texts[place], limit=SHOWN_LETTERS),
            label=str(contest.rows.rows.values[place]),
            answer=names[place],
            score=float(score[place]),
        )
        for place, key in zip(worst, _keys(contest, worst), strict=True)
    ]
    if not task.exclusive:
        return {"mistakes": mistakes}
    pairs = Counter((str(truth[place]), names[place]) for place in order.tolist()).most_common(
        _SHOWN_MISTAKES
    )
    return {
        "mistakes": mistakes,
        "confusions": [(label, answer, count) for (label, answer), count in pairs],
        "classes": [
            ClassLine(name=each.name, rows=each.rows, precision=each.precision, recall=each.recall)
            for each in class_quality(truth, one.answers)
        ],
    }


def _keys(contest: Contest, places: list[int]) -> list[str]:
    """Return the keys of some of the judged rows: only here, since nothing else asks for them."""
    dataset = contest.dataset
    if not places:
        return []
    rows = contest.test_rows(read_arrow(dataset, columns=[dataset.key, dataset.split]))
    return [str(key) for key in rows.column(dataset.key).take(places).to_pylist()]


def drop_metrics(checks: Iterable[CheckResult]) -> dict[str, float]:
    """Return how much worse each comparison finds the challenger, by the name of a metric of MLflow."""
    found: dict[str, dict[str, float]] = {}
    for result in checks:
        drops = found.setdefault(result.check, {})
        drops[free_name(result.name, drops)] = result.drop
    return {
        f"gate/drop/{check}/{name}": drop for check, drops in found.items() for name, drop in drops.items()
    }
