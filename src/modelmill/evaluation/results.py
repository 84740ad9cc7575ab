"""What an evaluation finds: the content of the JSON report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from modelmill.artifacts import ModelFormat
from modelmill.datasets.options import LabelKind
from modelmill.options import Record
from modelmill.tasks.kinds import task_of
from modelmill.tasks.metrics import Metric

_FIGURES = ("MB", "parameters", "docs/s", "smaller", "faster", "agreement")


class Score(Record):
    """A metric with the ends of its confidence interval."""

    metric: str
    """``accuracy``, ``macro_f1``; ``micro_f1``, ``macro_f1``, ``exact``; ``r2``, ``rmse``, ``mae``."""
    value: float
    low: float
    high: float


class BaselineResult(Record):
    """A baseline."""

    name: str
    scores: tuple[Score, ...]
    """In the order of the task's metrics."""

    def __getitem__(self, metric: str) -> Score:
        """Return the score of a metric."""
        return next(score for score in self.scores if score.metric == metric)


class ModelResult(BaselineResult):
    """A model."""

    name: str
    """Role and short id, unique in the report."""
    role: str
    uri: str
    format: ModelFormat
    size_mb: float
    """Size of weights and graph, in millions of bytes."""
    parameters: int
    documents_per_second: float
    """Measured side by side with the other models, tokenisation included."""
    documents_per_cpu_second: float
    """The same, by the time of all cores together."""
    size_ratio: float
    """Size of the first model over that of this one: above 1 it is smaller."""
    speed_ratio: float
    """Documents per second over those of the first model: above 1 it is faster."""
    agreement: float
    """With the first model, see :meth:`modelmill.tasks.base.Task.agreement`."""
    over_baseline: Score | None = None
    """By how much its first metric is better than the best baseline's; None without baselines."""
    beats_baseline: bool | None
    """Whether it is better at all; None without baselines."""
    unknown_classes: tuple[str, ...]
    """Classes of the test rows that the model does not know; it misses them all."""
    sentence: str
    """All that in words."""


class ClassResult(Record):
    """How well one model tells one class from the others."""

    model: str
    """Name of the model."""
    name: str
    """The class."""
    rows: int
    """Test rows of this class."""
    precision: float
    recall: float
    f1: float


class EvaluationReport(Record):
    """An evaluation."""

    dataset: str
    """``uri@version``."""
    label: str
    target: LabelKind = "class"
    rows: int
    """Test rows."""
    throughput_rows: int
    """Test rows that documents per second were measured on."""
    confidence: float
    models: tuple[ModelResult, ...]
    """In the order of the step's inputs: ratios are relative to the first."""
    baselines: tuple[BaselineResult, ...]
    per_class: tuple[ClassResult, ...] = ()
    """For one class a row only."""

    def as_json(self) -> dict[str, Any]:
        """Return the content of the JSON report.

        For one class a row it has the layout of the first release: fields ``accuracy``, ``accuracy_low`` and
        ``accuracy_high`` in place of a list of scores.
        """
        found = self.model_dump(mode="json")
        if not task_of(self.target).exclusive:
            del found["per_class"]
            return found
        del found["target"]
        for result in (*found["models"], *found["baselines"]):
            result.pop("over_baseline", None)
            for score in result.pop("scores"):
                name = score["metric"]
                result |= {name: score["value"], f"{name}_low": score["low"], f"{name}_high": score["high"]}
        return found

    def table(self) -> list[str]:
        """Return the report as a short table.

        :return: lines of plain text, columns aligned.
        """
        metrics = task_of(self.target).metrics
        rows = [("", *(metric.title for metric in metrics), *_FIGURES)]
        for model in self.models:
            rows.append(
                (
                    model.name,
                    *_cells(model, metrics),
                    f"{model.size_mb:.1f}",
                    f"{model.parameters:,}",
                    f"{model.documents_per_second:,.0f}",
                    f"{model.size_ratio:.2f}x",
                    f"{model.speed_ratio:.2f}x",
                    f"{model.agreement:.2%}",
                )
            )
        for baseline in self.baselines:
            rows.append((baseline.name, *_cells(baseline, metrics), *([""] * len(_FIGURES))))
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = []
        for row in rows:
            cells = [row[0].ljust(widths[0]), *(cell.rjust(widths[at]) for at, cell in enumerate(row) if at)]
            lines.append("  ".join(cells).rstrip())
        return lines

    def __str__(self) -> str:
        """Return the table, with a sentence for each model below it."""
        return "\n".join([*self.table(), *(model.sentence for model in self.models)])

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Read what :meth:`as_json` returns."""
        if "target" in content:
            return cls.model_validate(content)
        results = {name: [_with_scores(one) for one in content[name]] for name in ("models", "baselines")}
        return cls.model_validate({**content, **results})


def _with_scores(result: Mapping[str, Any]) -> dict[str, Any]:
    names = [name for name in result if f"{name}_low" in result]
    ends = {f"{name}{end}" for name in names for end in ("", "_low", "_high")}
    scores = [
        {"metric": name, "value": result[name], "low": result[f"{name}_low"], "high": result[f"{name}_high"]}
        for name in names
    ]
    return {**{name: value for name, value in result.items() if name not in ends}, "scores": scores}


def _cells(result: BaselineResult, metrics: Sequence[Metric]) -> list[str]:
    cells = []
    for score, metric in zip(result.scores, metrics, strict=True):
        if metric.is_share:
            cells.append(f"{score.value:.2%} ({100 * score.low:.1f} to {100 * score.high:.1f})")
        else:
            cells.append(f"{score.value:.4g} ({score.low:.4g} to {score.high:.4g})")
    return cells
