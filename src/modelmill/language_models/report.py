"""What came of labelling a table with a language model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from modelmill.language_models.forecast import Forecast
from modelmill.language_models.gold import GoldReport
from modelmill.language_models.labelled_rows import LabellingOutcome
from modelmill.options import Record
from modelmill.registry.tracking import free_name


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


class SignalReport(Record):
    """One signal. Rows in = labelled + abstained + failed."""

    rows_gold: int
    rows_by_llm: int
    abstained: Mapping[str, int]
    """Rows without a label, by reason: ``cannot tell``, ``below the threshold``, ``blank``,
    ``not chosen``."""
    failed: Mapping[str, int]
    """Rows without an answer, by reason: ``invalid``, ``refused``, ``lost``, ``budget``,
    ``too long`` for a minute."""
    labels: Mapping[str, int]
    """Rows with each label, gold ones included."""
    review_rows: int
    gold: GoldReport | None
    """None without a gold column."""

    @classmethod
    def of(cls, outcome: LabellingOutcome, *, review_rows: int, gold: GoldReport | None) -> SignalReport:
        """Return the report of a signal's labels."""
        by_gold, by_llm = outcome.counts()
        return cls(
            rows_gold=by_gold,
            rows_by_llm=by_llm,
            abstained=dict(sorted(outcome.abstained.items())),
            failed=dict(sorted(outcome.failed.items())),
            labels=dict(sorted(Counter(row.label for row in outcome.rows if row.label).items())),
            review_rows=review_rows,
            gold=gold,
        )

    @property
    def rows_abstained(self) -> int:
        """Rows that were answered, or had nothing to ask, and get no label."""
        return sum(self.abstained.values())

    @property
    def rows_failed(self) -> int:
        """Rows that no answer came for."""
        return sum(self.failed.values())

    @property
    def rows_counted(self) -> int:
        """All rows that it says something about."""
        return self.rows_gold + self.rows_by_llm + self.rows_abstained + self.rows_failed

    def figures(self) -> dict[str, float]:
        """Return its counts, and how right it is on gold rows."""
        found: dict[str, float] = {
            "rows_gold": self.rows_gold,
            "rows_by_llm": self.rows_by_llm,
            "rows_abstained": self.rows_abstained,
            "rows_failed": self.rows_failed,
            "rows_for_review": self.review_rows,
        }
        if self.gold is not None and self.gold.accuracy is not None:
            found |= {"gold_accuracy": self.gold.accuracy, "gold_accuracy_low": self.gold.accuracy_low}
        return found


class Labelled(Record):
    """What all signals of a step have in common."""

    source: str
    model: str
    dialect: str
    columns: tuple[str, ...]
    """What has left."""
    rows: int
    bill: Bill
    forecast: Forecast | None
    """Before the bulk of the requests was sent; None if nothing had to be asked."""


class LlmReport(SignalReport, Labelled):
    """A step with one signal."""

    @property
    def by_signal(self) -> Mapping[str, SignalReport]:
        """The signal, without a name."""
        return {"": self}


class LlmReportOfSeveral(Labelled):
    """A step with several signals."""

    signals: Mapping[str, SignalReport]
    """By label column."""

    @property
    def by_signal(self) -> Mapping[str, SignalReport]:
        """The signals."""
        return self.signals


AnyLlmReport = LlmReport | LlmReportOfSeveral


def told(common: Labelled, reports: Mapping[str, SignalReport], *, several: bool) -> AnyLlmReport:
    """Return the report of a step.

    :param common: what its signals have in common.
    :param reports: by label column.
    :param several: whether its configuration has ``signals``, be it one.
    :return: the report.
    """
    shared = dict(common)
    if several:
        return LlmReportOfSeveral(**shared, signals=reports)
    (report,) = reports.values()
    return LlmReport(**shared, **dict(report))


def metrics(report: AnyLlmReport) -> dict[str, float]:
    """Return the figures for MLflow; those of one of several signals end with its name."""
    bill = report.bill
    found: dict[str, float] = {
        "rows": report.rows,
        f"accounted_{bill.unit}": bill.accounted,  # forecasts read it: Budget.metric
        "answers": bill.answers,
        "answers_from_table": bill.from_table,
        "answers_lost": bill.lost,
    }
    for name, signal in report.by_signal.items():
        for figure, value in signal.figures().items():
            found[free_name(f"{figure}.{name}" if name else figure, found)] = value
    return {name: float(value) for name, value in found.items()}


def forecast_line(forecast: Forecast) -> str:
    """Return a forecast in words."""
    made = f"from {forecast.from_answers} answers" if forecast.from_answers else "the worst case"
    return (
        f"forecast, {made}: {forecast.requests:,} requests will cost {_cost(forecast.cost, forecast.unit)}, "
        f"and no more than {_cost(forecast.worst_case, forecast.unit)}; "
        f"{_cost(forecast.spent, forecast.unit)} of {_cost(forecast.budget, forecast.unit)} is spent"
    )


def summary(report: AnyLlmReport) -> Iterator[str]:
    """Yield the report in words.

    :param report: the report.
    :yield: one line each; about one of several signals, it begins with its name.
    """
    for name, signal in report.by_signal.items():
        for line in _count_lines(report, signal):
            yield f"{name}: {line}" if name else line
    bill = report.bill
    yield (
        f"{bill.requests:,} requests: {bill.from_table:,} answers were there, {bill.answers:,} were paid "
        f"for, {bill.lost:,} lost; accounted {_cost(bill.accounted, bill.unit)} "
        f"of {_cost(bill.budget, bill.unit)}"
    )
    for name, signal in report.by_signal.items():
        for line in _gold_lines(signal.gold) if signal.gold is not None else ():
            yield f"{name}: {line}" if name else line


def _count_lines(report: AnyLlmReport, signal: SignalReport) -> Iterator[str]:
    yield (
        f"{report.rows:,} rows = {signal.rows_gold:,} gold + {signal.rows_by_llm:,} by {report.model} "
        f"+ {signal.rows_abstained:,} abstained + {signal.rows_failed:,} failed"
    )
    for what, counts in (("abstained", signal.abstained), ("failed", signal.failed)):
        if counts:
            yield f"{what}: " + ", ".join(f"{count:,} {reason}" for reason, count in counts.items())


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
