"""The plot of a plan. It needs no display, and does not touch Matplotlib's global state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelmill.rules.planning.plan import EvaluationPlan, PlanStatistics, named

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plan_figure(plan: EvaluationPlan, statistics: PlanStatistics | None = None) -> Figure:
    """Draw the rows and the cost of each stage, as expected and as measured.

    :param plan: a plan with measured costs.
    :param statistics: the measured work of the plan; None to draw only what is expected.
    :return: the figure.
    """
    from matplotlib.figure import Figure

    height = 0.5 * max(len(plan.stages), 1)
    figure = Figure(figsize=(10, 1.6 + height), layout="constrained")
    rows_axes, cost_axes = figure.subplots(1, 2, sharey=True)
    places = range(len(plan.stages))
    total = max(statistics.rows, 1) if statistics else 1
    rows = [100 * (stage.rows or 0) for stage in plan.stages]
    cost = [1e6 * (stage.seconds or 0) for stage in plan.stages]
    rows_axes.barh(places, rows, color="tab:blue", alpha=0.6, label="expected")
    cost_axes.barh(places, cost, color="tab:blue", alpha=0.6, label="expected")
    if statistics:
        done = [100 * stage.rows / total for stage in statistics.stages]
        spent = [1e6 * stage.seconds / total for stage in statistics.stages]
        rows_axes.plot(done, places, "|", color="black", markersize=16, label="happened")
        cost_axes.plot(spent, places, "|", color="black", markersize=16, label="happened")
    settled = [100 * (stage.settled or 0) for stage in plan.stages]
    rows_axes.plot(settled, places, "o", color="tab:green", label="settled after it")
    labels = [
        f"{number + 1}. {stage.group[:20]}: {named(stage.signals, most=2)}"[:44].replace("$", r"\$")
        for number, stage in enumerate(plan.stages)
    ]
    rows_axes.set_yticks(places, labels)
    rows_axes.invert_yaxis()
    rows_axes.set(xlabel="% of the rows", xlim=(0, 103))
    cost_axes.set(xlabel="µs of CPU for each row of the input")
    rows_axes.legend(loc="best", fontsize="small")
    if plan.seconds is not None and plan.seconds_of_everything:
        share = plan.seconds / plan.seconds_of_everything
        figure.suptitle(
            f"{1e6 * plan.seconds:,.1f} µs a row, {share:.0%} of computing every signal on every row"
        )
    return figure
