"""What came of labelling a table with a language model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from modelmill.language_models.forecast import Forecast
from modelmill.language_models.gold import GoldReport
from modelmill.options import Record


class Bill(Record):
    """Where the money went. Costs are in the budget's unit: money, or tokens."""

    unit: str
    budget: float
    accounted: float
    """All that may have been billed: settled, and reserved by what died."""
    reserved_for_dead: float
    requests: int
    """Different requests that the rows need."""
    from_table: int
    """Answers that were in the table of answers before."""
    answers: int
    """Answers that this result has paid for, over all its attempts."""
    lost: int
    """Requests that may have been billed and gave no answer, over all attempts."""
    orphans: int
    """Requests that were open when their process died."""
    told_to_wait: int
    """Requests that were refused with 429, in this attempt."""
    without_usage: int
    """Answers that did not say what was billed, in this attempt: the worst case counts."""


class LlmReport(Record):
    """Rows in = labelled + abstained + failed."""

    source: str
    model: str
    dialect: str
    columns: tuple[str, ...]
    """What has left."""
    rows: int
    rows_gold: int
    rows_by_llm: int
    abstained: Mapping[str, int]
    """Rows without a label, by reason: ``cannot tell``, ``below the threshold``, ``blank``,
    ``not chosen``."""
    failed: Mapping[str, int]
    """Rows without an answer, by reason: ``invalid``, ``refused``, ``lost``, ``budget``."""
    labels: Mapping[str, int]
    """Rows with each label, gold ones included."""
    review_rows: int
    bill: Bill
    forecast: Forecast | None
    """Before the bulk of the requests was sent; None if nothing had to be asked."""
    gold: GoldReport | None
    """None without a gold column."""

    @property
    def rows_abstained(self) -> int:
        """Rows that were answered, or had nothing to ask, and get no label."""
        return sum(self.abstained.values())

    @property
    def rows_failed(self) -> int:
        """Rows that no answer came for."""
        return sum(self.failed.values())


def metrics(report: LlmReport) -> dict[str, float]:
    """Return the figures for MLflow."""
    found = {
        "rows": report.rows,
        "rows_gold": report.rows_gold,
        "rows_by_llm": report.rows_by_llm,
        "rows_abstained": report.rows_abstained,
        "rows_failed": report.rows_failed,
        "rows_for_review": report.review_rows,
        f"accounted_{report.bill.unit}": report.bill.accounted,  # forecasts read it: Budget.metric
        "answers": report.bill.answers,
        "answers_from_table": report.bill.from_table,
        "answers_lost": report.bill.lost,
    }
    gold = report.gold
    if gold is not None and gold.accuracy is not None:
        found |= {"gold_accuracy": gold.accuracy, "gold_accuracy_low": gold.accuracy_low}
    return {name: float(value) for name, value in found.items()}


def forecast_line(forecast: Forecast) -> str:
    """Return a forecast in words."""
    made = f"from {forecast.from_answers} answers" if forecast.from_answers else "the worst case"
    return (
        f"forecast, {made}: {forecast.requests:,} requests will cost {_cost(forecast.cost, forecast.unit)}, "
        f"and no more than {_cost(forecast.worst_case, forecast.unit)}; "
        f"{_cost(forecast.spent, forecast.unit)} of {_cost(forecast.budget, forecast.unit)} is spent"
    )


def summary(report: LlmReport) -> Iterator[str]:
    """Yield the report in words.

    :param report: the report.
    :yield: one line each.
    """
    yield (
        f"{report.rows:,} rows = {report.rows_gold:,} gold + {report.rows_by_llm:,} by {report.model} "
        f"+ {report.rows_abstained:,} abstained + {report.rows_failed:,} failed"
    )
    for what, counts in (("abstained", report.abstained), ("failed", report.failed)):
        if counts:
            yield f"{what}: " + ", ".join(f"{count:,} {reason}" for reason, count in counts.items())
    bill = report.bill
    yield (
        f"{bill.requests:,} requests: {bill.from_table:,} answers were there, {bill.answers:,} were paid "
        f"for, {bill.lost:,} lost; accounted {_cost(bill.accounted, bill.unit)} "
        f"of {_cost(bill.budget, bill.unit)}"
    )
    gold = report.gold
    if gold is not None:
        yield from _gold_lines(gold)


def _gold_lines(gold: GoldReport) -> Iterator[str]:
    if gold.rows_of_other_labels:
        yield f"{gold.rows_of_other_labels:,} gold rows have a label that is none of the labels"
    if gold.accuracy is None:
        yield "no gold row was answered: nothing is known of the labels' quality"
        return
    yield (
        f"on {gold.answered:,} gold rows {gold.accuracy:.1%} right (95 % interval {gold.accuracy_low:.1%} "
        f"to {gold.accuracy_high:.1%})"
    )
    if gold.orders_compared:
        yield (
            f"the order of the labels changes {gold.orders_differ:,} of {gold.orders_compared:,} answers; "
            f"right by order: {', '.join(map(str, gold.right_by_order))}"
        )
    for one in gold.labels:
        if not one.given:
            yield (
                f"{one.label!r} is not given: {one.right} of {one.rows} gold rows are right, which proves "
                f"{one.precision_low:.1%}; {one.rows_needed} right ones of as many would prove it"
            )


def _cost(amount: float, unit: str) -> str:
    return f"{amount:,.0f} tokens" if unit == "tokens" else f"{amount:,.4f}"
