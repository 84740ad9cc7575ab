"""An evaluation in words: the sentence of a model, and the table at the end of the log."""

from __future__ import annotations

from modelmill.evaluation.metrics import Difference
from modelmill.evaluation.results import EvaluationReport, Quality

_HEADER = ("", "accuracy", "macro-F1", "MB", "parameters", "docs/s", "smaller", "faster", "agreement")


def model_sentence(
    *,
    name: str,
    quality: Quality,
    reference: str | None,
    size_ratio: float,
    speed_ratio: float,
    agreement: float,
    baseline: str | None,
    over_baseline: Difference | None,
) -> str:
    """Say in one sentence what a model is worth.

    :param name: the model.
    :param quality: its metrics.
    :param reference: name of the first model; None for the first model itself.
    :param size_ratio: size of the first model over its own.
    :param speed_ratio: its documents per second over those of the first model.
    :param agreement: share of rows with the first model's answer.
    :param baseline: name of the best baseline; None without baselines.
    :param over_baseline: the model's accuracy minus the baseline's, on the same rows.
    :return: the sentence.
    """
    low, high = f"{quality.accuracy_low:.2%}", f"{quality.accuracy_high:.2%}"
    text = f"{name}: accuracy {quality.accuracy:.2%} ({low} to {high})"
    if reference is not None:
        text += (
            f", {_ratio(size_ratio, 'smaller', 'larger')} and {_ratio(speed_ratio, 'faster', 'slower')} than "
            f"{reference}, whose answer it gives to {agreement:.2%} of the rows"
        )
    if baseline is not None and over_baseline is not None:
        text += f"; {_against(over_baseline, baseline)}"
    return f"{text}."


def table_lines(report: EvaluationReport) -> list[str]:
    """Return the report as a short table.

    :param report: the report.
    :return: lines of plain text, columns aligned.
    """
    rows = [_HEADER]
    for model in report.models:
        rows.append(
            (
                model.name,
                _interval(model.accuracy, model.accuracy_low, model.accuracy_high),
                _interval(model.macro_f1, model.macro_f1_low, model.macro_f1_high),
                f"{model.size_mb:.1f}",
                f"{model.parameters:,}",
                f"{model.documents_per_second:,.0f}",
                f"{model.size_ratio:.2f}x",
                f"{model.speed_ratio:.2f}x",
                f"{model.agreement:.2%}",
            )
        )
    for baseline in report.baselines:
        quality = (
            _interval(baseline.accuracy, baseline.accuracy_low, baseline.accuracy_high),
            _interval(baseline.macro_f1, baseline.macro_f1_low, baseline.macro_f1_high),
        )
        rows.append((baseline.name, *quality, "", "", "", "", "", ""))
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
    lines = [f"{report.label}: {report.rows:,} test rows of {report.dataset}"]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(widths[at]) for at, cell in enumerate(row) if at)]
        lines.append("  ".join(cells).rstrip())
    return lines


def _interval(value: float, low: float, high: float) -> str:
    return f"{value:.2%} ({100 * low:.1f} to {100 * high:.1f})"


def _ratio(ratio: float, more: str, less: str) -> str:
    return f"{ratio:.2f} times {more}" if ratio >= 1 else f"{1 / ratio:.2f} times {less}"


def _against(difference: Difference, baseline: str) -> str:
    points = 100 * difference.difference
    span = f"{100 * difference.low:+.2f} to {100 * difference.high:+.2f}"
    if not points:
        return f"as good as {baseline} ({span} points)"
    settled = difference.low > 0 or difference.high < 0
    doubt = "" if settled else ", which these rows do not settle"
    where = "above" if points > 0 else "below"
    return f"{abs(points):.2f} points {where} {baseline} ({span}){doubt}"
