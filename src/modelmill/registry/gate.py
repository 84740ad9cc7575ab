"""The gate: the exported file, in its serving runtime, against its parent, the champion and the baselines.

Every comparison is on the same test rows. A metric of a few thousand rows is uncertain by tenths of a point:
a challenger is refused if its point estimate breaks a limit *and* the paired bootstrap says with confidence
that it is worse at all. One that breaks a limit within the noise passes with a warning.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from modelmill.artifacts import DatasetRef, ModelRef, VerdictRef
from modelmill.errors import DatasetError
from modelmill.evaluation.baselines import dataset_baselines
from modelmill.evaluation.metrics import Difference, paired_difference
from modelmill.evaluation.plots import gate_figure
from modelmill.evaluation.rows import cached_answers, judged_label, split_rows
from modelmill.registry.models import fetch_bundle, logged_model
from modelmill.registry.promotion import champion
from modelmill.serving.bundle import BundleInfo

if TYPE_CHECKING:
    from modelmill.pipeline.component import StepContext
    from modelmill.registry.components import GateConfig


class Check(BaseModel):
    """One thing that a challenger must not do worse than."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    """``parent``, ``champion``, or the name of a baseline."""
    passed: bool
    warning: bool
    """Whether it passed although the point estimate breaks the limit: the rows are too few to tell."""
    metric: str
    challenger: float
    other: float
    drop: float
    """Metric of the other minus that of the challenger: positive where the challenger is worse."""
    low: float
    """Lower end of the drop's confidence interval."""
    high: float
    limit: float
    """Largest accepted drop."""
    sentence: str


class Report(BaseModel):
    """Everything that the gate looked at."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    passed: bool
    challenger: str
    champion: str | None
    dataset: str
    label: str
    rows: int
    confidence: float
    note: str
    checks: tuple[Check, ...]


def run(config: GateConfig, dataset: DatasetRef, challenger: ModelRef, context: StepContext) -> VerdictRef:
    """Judge a challenger. A refusal is a verdict, not an error.

    :param config: names, metric and limits.
    :param dataset: judged on its test split.
    :param challenger: the exported model.
    :param context: the step's context.
    :return: the verdict, with its report in MLflow.
    :raises DatasetError: if there are no test rows.
    :raises ModelError: if the challenger's files have changed, or its label is not the dataset's.
    """
    client = context.run.client
    info = BundleInfo.load(fetch_bundle(challenger, context.cache))
    current = champion(config.name, client)
    checks: tuple[Check, ...] = ()
    if current is not None and current.digest == challenger.digest:
        label, rows = info.label, 0
        note = f"{challenger.uri} is the champion already: there is nothing to compare"
    else:
        label = judged_label(dataset, [info])
        texts, truth = split_rows(dataset, "test", label)
        if not truth:
            raise DatasetError(
                "the gate judges on labelled test rows", got=str(dataset), remedy="change the dataset's split"
            )
        rows, note = len(truth), ""
        checks = _checks(config, dataset, challenger, current, (label, texts, truth), context)
    report = Report(
        name=config.name,
        passed=all(check.passed for check in checks),
        challenger=challenger.uri,
        champion=current.uri if current else None,
        dataset=str(dataset),
        label=label,
        rows=rows,
        confidence=config.confidence,
        note=note,
        checks=checks,
    )
    return _publish(report, challenger, current, dataset, context)


def _checks(
    config: GateConfig,
    dataset: DatasetRef,
    challenger: ModelRef,
    current: ModelRef | None,
    judged: tuple[str, list[str], list[str]],
    context: StepContext,
) -> tuple[Check, ...]:
    label, texts, truth = judged
    answers = cached_answers(challenger, dataset, "test", context, label=label)
    others: list[tuple[str, list[str], float]] = []
    if challenger.parent:
        parent = logged_model(context.run.client, challenger.parent)
        others.append(
            ("parent", cached_answers(parent, dataset, "test", context, label=label), config.max_drop)
        )
    if current:
        found = cached_answers(current, dataset, "test", context, label=label)
        others.append(("champion", found, config.max_drop))
    for name, found in dataset_baselines(dataset, label=label, texts=texts).items():
        others.append((name, found, config.max_below_baseline))
    checks = []
    for name, other, limit in others:
        difference = paired_difference(
            truth,
            other,
            answers,
            metric=config.metric,
            confidence=config.confidence,
            resamples=config.resamples,
            limit=limit,
        )
        checks.append(judge(name, difference, limit=limit))
        context.log(checks[-1].sentence)
    return tuple(checks)


def judge(name: str, difference: Difference, *, limit: float) -> Check:
    """Decide one check.

    :param name: what the challenger is compared with.
    :param difference: the other model's metric minus the challenger's, on the same rows.
    :param limit: largest accepted drop.
    :return: the check.
    """
    drop, low, high = difference.difference, difference.low, difference.high
    beyond = drop > limit + 1e-12
    passed = not (beyond and low > 0)
    relation = f"{abs(drop):.2%} {'below' if drop > 0 else 'above'}" if drop else "level with"
    outcome = "passed"
    if not passed:
        outcome = f"refused: more than the accepted {limit:.2%} below, beyond chance"
    elif beyond:
        outcome = f"passed with a warning: more than {limit:.2%} below, but within chance"
    return Check(
        name=name,
        passed=passed,
        warning=passed and beyond,
        metric=difference.metric,
        challenger=difference.second,
        other=difference.first,
        drop=drop,
        low=low,
        high=high,
        limit=limit,
        sentence=f"{difference.metric} {difference.second:.2%} is {relation} {name} ({difference.first:.2%}; "
        f"drop between {low:.2%} and {high:.2%}): {outcome}",
    )


def _publish(
    report: Report, challenger: ModelRef, current: ModelRef | None, dataset: DatasetRef, context: StepContext
) -> VerdictRef:
    run = context.run
    uri = run.log_json(report.model_dump(mode="json"), "gate/verdict.json")
    run.client.log_text(run.run_id, as_html(report), "gate/verdict.html")
    outcome = "passed" if report.passed else "refused"
    if report.checks:
        figure = gate_figure(report.checks, title=f"{report.name}: {outcome}")
        run.log_figure(figure, "gate/verdict.png")
        run.log_dataset(dataset, context="gate", rows=report.rows)
    figures = {"gate/passed": float(report.passed)}
    for check in report.checks:
        figures[f"gate/drop/{_metric_name(check.name)}"] = check.drop
    run.log_metrics(figures)
    context.log(f"{report.name}: the challenger {challenger.uri} is {outcome}. {report.note}".rstrip())
    return VerdictRef(
        passed=report.passed,
        name=report.name,
        challenger=challenger,
        champion_version=int(current.uri.rsplit("/", 1)[1]) if current else None,
        reasons=tuple(check.sentence for check in report.checks if not check.passed),
        uri=uri,
        run_id=run.run_id,
    )


def _metric_name(text: str) -> str:
    """MLflow's metric names take no plus signs."""
    return "".join(letter if letter.isalnum() or letter in " _-" else "" for letter in text).strip()


def as_html(report: Report) -> str:
    """Return the report as a page that a person can read.

    :param report: the report.
    :return: HTML without scripts.
    """
    rows = "".join(_row(check) for check in report.checks)
    verdict = "passed" if report.passed else "refused"
    facts = {
        "Challenger": report.challenger,
        "Champion": report.champion or "none yet",
        "Dataset": f"{report.dataset}, label {report.label}, {report.rows:,} test rows",
        "Confidence": f"{report.confidence:.0%}",
    }
    listed = "".join(f"<dt>{key}</dt><dd>{html.escape(value)}</dd>" for key, value in facts.items())
    heads = ("Compared with", "Verdict", "Metric", "Challenger", "Other", "Drop", "Interval", "Limit")
    head = "".join(f"<th>{name}</th>" for name in heads)
    return (
        "<!doctype html><meta charset='utf-8'><title>Gate</title><style>body{font:15px sans-serif;margin:2em}"
        "td,th{padding:.3em .8em;text-align:left;border-bottom:1px solid #ccc}dt{font-weight:bold}"
        ".refused{color:#b00}.passed{color:#070}.warning{color:#850}</style>"
        f"<h1>{html.escape(report.name)}: <span class='{verdict}'>{verdict}</span></h1><dl>{listed}</dl>"
        f"<p>{html.escape(report.note)}</p><table><tr>{head}</tr>{rows}</table>"
    )


def _row(check: Check) -> str:
    verdict = "refused" if not check.passed else "warning" if check.warning else "passed"
    cells: Sequence[str] = (
        html.escape(check.name),
        f"<span class='{verdict}'>{verdict}</span>",
        check.metric,
        f"{check.challenger:.2%}",
        f"{check.other:.2%}",
        f"{check.drop:+.2%}",
        f"{check.low:+.2%} to {check.high:+.2%}",
        f"{check.limit:.2%}",
    )
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
