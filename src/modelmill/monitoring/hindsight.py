"""How the models of past days would do today: each is judged on the test rows of the last day's dataset.

Which model a day has made is read from the runs in MLflow, by the logical date that Airflow gave them: those
of nights as well as those of a backfill. All models answer the same rows, and none is asked about a row that
one of them has learnt from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from modelmill.artifacts import DatasetRef, ModelRef, VerdictRef
from modelmill.errors import ConfigError, ModelError
from modelmill.evaluation.logits import cached_logits
from modelmill.evaluation.results import Score
from modelmill.evaluation.rows import JudgedRows, judged_label, judged_rows
from modelmill.models.bundle import BundleInfo
from modelmill.monitoring.morning import TAG_LOGICAL_DATE
from modelmill.options import Record
from modelmill.registry.bundles import fetch_bundle
from modelmill.registry.finished_runs import read_tags
from modelmill.registry.learnt_rows import check_left, learnt_rows
from modelmill.registry.lineage import taught_by
from modelmill.registry.mlflow_calls import mlflow_errors
from modelmill.registry.tracking import tracking_client
from modelmill.settings import Settings
from modelmill.tasks.base import Answers
from modelmill.tasks.metrics import Metric
from modelmill.workspace import Workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_PAGE = 1000
_LEAST_ROWS = 20


class DayResult(Record):
    """A day's model, judged on the last day's test rows."""

    day: datetime
    """Logical date of the run that made it."""
    model: str
    """Its URI."""
    digest: str
    """SHA-256 of its files: days with the same one have the same model."""
    dataset: str
    """``uri@version`` of the dataset it learnt from; empty if MLflow does not say."""
    scores: tuple[Score, ...]
    """In the order of the task's metrics."""
    behind: Score | None
    """By how much its first metric is worse than that of the last day's model, with the ends of the paired
    bootstrap's interval; None for that model itself."""


class Hindsight(Record):
    """The models of past days, on the rows of the last one."""

    pipeline: str
    step: str
    """The step whose models they are."""
    label: str
    dataset: str
    """``uri@version`` of the last day's dataset."""
    rows: int
    """Test rows that they are judged on."""
    left_out: tuple[str, ...]
    """Which test rows are left out because models have learnt from them, in words."""
    confidence: float
    days: tuple[DayResult, ...]
    """The oldest first."""


@dataclass(frozen=True)
class _Made:
    """A model that a run has made, or has judged."""

    day: datetime
    step: str
    model: ModelRef
    ended: int

    @classmethod
    def of(cls, run: Run, step: str) -> Iterator[_Made]:
        """Yield what a run says: a gate its challenger, and the step that is asked for its models."""
        tags = run.data.tags
        finished = read_tags(str(run.info.experiment_id), str(run.info.run_id), tags)
        day, name = datetime.fromisoformat(tags[TAG_LOGICAL_DATE]), str(tags.get("modelmill.step", ""))
        for output in finished.outputs.values() if finished else ():
            if isinstance(output, VerdictRef) and step in ("", name):
                yield cls(day, name, output.challenger, int(run.info.end_time or 0))
            elif isinstance(output, ModelRef) and step == name:
                yield cls(day, name, output, int(run.info.end_time or 0))


def hindsight(
    pipeline: str,
    settings: Settings,
    workspace: Workspace,
    *,
    step: str = "",
    since: datetime | None = None,
    until: datetime | None = None,
    confidence: float = 0.95,
) -> Hindsight:
    """Judge the model of each day on the test rows of the last day.

    :param pipeline: its name.
    :param settings: where MLflow is.
    :param workspace: keeps bundles and logits.
    :param step: a step that makes or judges a model; empty: the pipeline's only gate, by its challenger.
    :param since: first logical date; None: as far back as there are runs.
    :param until: last logical date; None: up to now.
    :param confidence: of the intervals.
    :return: a result for each day that has a model.
    :raises ConfigError: if there are fewer than two days, or several gates and no step.
    :raises ModelError: if nobody knows what the last day's model has learnt from.
    :raises GateError: if too few rows are left that no model has learnt from.
    """
    with mlflow_errors(settings.tracking_uri):
        client = tracking_client(settings.tracking_uri)
        made = _models(client, pipeline, step, since, until)
        models = {day.isoformat(): one.model for day, one in made.items()}
        last, dataset = [*made.values()][-1], _taught(client, [*models.values()][-1])
        infos, folders = {}, {}
        for day, model in models.items():
            folders[day] = fetch_bundle(model, workspace.cache)
            infos[day] = BundleInfo.load(folders[day])
        everything = judged_rows(dataset, judged_label(dataset, [*infos.values()]), [*infos.values()])
        learnt, left_out = learnt_rows(
            models, dataset, everything.texts, client, kind=everything.rows.content
        )
        check_left(int((~learnt).sum()), len(everything), left_out, least=_LEAST_ROWS, lost="compare")
        rows = everything.keep(~learnt)
        answers = {
            day: rows.answers(infos[day], cached_logits(model, folders[day], dataset, "test", workspace))
            for day, model in models.items()
        }
        return Hindsight(
            pipeline=pipeline,
            step=last.step,
            label=rows.label,
            dataset=str(dataset),
            rows=len(rows),
            left_out=tuple(one.sentence for one in left_out),
            confidence=confidence,
            days=tuple(_results(made, answers, rows, client, confidence)),
        )


def _models(
    client: MlflowClient, pipeline: str, step: str, since: datetime | None, until: datetime | None
) -> dict[datetime, _Made]:
    """Return the model of each day, the oldest first; of two runs for a day that which ended last."""
    found = [
        one
        for run in _dated_runs(client, pipeline)
        for one in _Made.of(run, step)
        if (since is None or one.day >= since) and (until is None or one.day <= until)
    ]
    steps = sorted({one.step for one in found})
    if len(steps) > 1:
        raise ConfigError(
            "the days of one step's models are compared",
            got=f"pipeline {pipeline!r} with gates {', '.join(steps)}",
            remedy="name one with --step",
        )
    by_day = {one.day: one for one in sorted(found, key=lambda one: (one.day, one.ended))}
    if len(by_day) < 2:
        raise ConfigError(
            "two days with a model of their own, or more, can be compared",
            got=f"{len(by_day)} of pipeline {pipeline!r}" + (f", step {step!r}" if step else ""),
            remedy="run it for past days (airflow backfill create), choose an earlier --since, or name with "
            "--step a step that makes a model, or a gate",
        )
    return by_day


def _dated_runs(client: MlflowClient, pipeline: str) -> Iterator[Run]:
    experiment = client.get_experiment_by_name(pipeline)
    if experiment is None:
        raise ConfigError(
            "the pipeline must have run", got=pipeline, remedy="an experiment of MLflow has its name"
        )
    token: str | None = None
    while True:
        page = client.search_runs(
            [experiment.experiment_id],
            filter_string="attributes.status = 'FINISHED'",
            max_results=_PAGE,
            page_token=token,
        )
        yield from (run for run in page if TAG_LOGICAL_DATE in run.data.tags)
        token = page.token
        if not token:
            return


def _taught(client: MlflowClient, model: ModelRef) -> DatasetRef:
    """Return the dataset that a model has learnt from, or the nearest of those that it was made from."""
    for taught in taught_by(model.uri, client):
        if taught.dataset is not None:
            return taught.dataset
    raise ModelError(
        "MLflow must say which dataset the last day's model has learnt from",
        got=model.uri,
        remedy="choose an earlier --until, or a --step that trains",
    )


def _results(
    made: Mapping[datetime, _Made],
    answers: Mapping[str, Answers],
    rows: JudgedRows,
    client: MlflowClient,
    confidence: float,
) -> Iterator[DayResult]:
    newest = [*answers.values()][-1]
    for (day, one), given in zip(made.items(), answers.values(), strict=True):
        taught = [str(found.dataset) for found in taught_by(one.model.uri, client) if found.dataset]
        yield DayResult(
            day=day,
            model=one.model.uri,
            digest=one.model.digest,
            dataset=taught[0] if taught else "",
            scores=tuple(_score(metric, rows, given, confidence) for metric in rows.task.metrics),
            behind=None if given is newest else _behind(rows, newest, given, confidence),
        )


def _score(metric: Metric, rows: JudgedRows, given: Answers, confidence: float) -> Score:
    found = metric.interval(rows.truth, given, confidence=confidence)
    return Score(metric=metric.name, value=found.value, low=found.low, high=found.high)


def _behind(rows: JudgedRows, newest: Answers, given: Answers, confidence: float) -> Score:
    metric = rows.task.metrics[0]
    found = metric.difference(rows.truth, newest, given, confidence=confidence)
    return Score(metric=metric.name, value=found.value, low=found.low, high=found.high)


def table(found: Hindsight) -> list[Sequence[str]]:
    """Return it as the cells of a table, the head first.

    :param found: what was found.
    :return: the rows, all of the same length.
    """
    names = [score.metric for score in found.days[-1].scores]
    lines: list[Sequence[str]] = [("day", "dataset", "model", *names, f"behind the last ({names[0]})")]
    for one in found.days:
        behind = "-" if one.behind is None else _shown(one.behind, sign="+")
        dataset = f"@{one.dataset.rpartition('@')[2]}" if one.dataset else "unknown"
        scores = [_shown(score) for score in one.scores]
        lines.append((f"{one.day:%Y-%m-%d %H:%M}", dataset, one.digest[:12], *scores, behind))
    return lines


def _shown(score: Score, *, sign: str = "") -> str:
    return f"{score.value:{sign}.4f} ({score.low:{sign}.4f} to {score.high:{sign}.4f})"
