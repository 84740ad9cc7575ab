"""Plans: the best order of small problems, what they say, and that they follow the data."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from modelmill.rules.engine import Engine
from modelmill.rules.evaluation.compiled_rule_set import compile_rule_set
from modelmill.rules.evaluation.rule_program import RuleProgram
from modelmill.rules.planning import planner
from modelmill.rules.planning.plan import (
    EvaluationPlan,
    GroupCost,
    PlanStatistics,
    StagePlan,
    StageStatistics,
    plan_by_tiers,
)
from modelmill.rules.planning.plan_plot import plan_figure
from modelmill.rules.planning.planner import make_plan
from modelmill.rules.planning.simulation import Simulation, StageFigures, Unit
from modelmill.rules.rule_set import RuleSet
from modelmill.signals.groups import Evaluation, Rows, SignalGroup, SignalInfo, SignalValues, Tier


@pytest.fixture(scope="module")
def problems(benchmark_module: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark_module("plan_orders")


@pytest.mark.parametrize("seed", range(8))
def test_a_plan_is_the_best_of_all_orders(problems: ModuleType, seed: int) -> None:
    ratio, _, agrees = problems.check(seed, most=5)
    assert ratio <= 1.1
    assert agrees


@pytest.mark.parametrize(
    ("search", "median", "mean"), [("_best_of_beam", 1.0001, 1.01), ("_by_ratio", 1.005, 1.1)]
)
def test_the_searches_for_many_signals_come_near_the_best_order(
    problems: ModuleType, search: str, median: float, mean: float
) -> None:
    found = []
    for seed in range(20):
        problem = problems.Problem(seed, most=6)
        simulation, units = problem.simulation(), problem.units()
        order = getattr(planner, search)(simulation, units)
        assert sorted(order) == list(range(len(units)))
        best, _ = problems.best_of_all(problem)
        found.append(cost_of(simulation, units, order) / best)
    assert min(found) >= 1 - 1e-12
    assert np.median(found) <= median
    assert np.mean(found) <= mean


@pytest.mark.parametrize(
    ("exact", "steps", "method"),
    [(6, 64, "subsets"), (5, 72, "beam"), (8, 63, "ratios"), (8, 6, "ratios"), (8, 5, "tiers")],
)
def test_the_search_is_the_best_that_is_quick_enough(
    problems: ModuleType, monkeypatch: pytest.MonkeyPatch, exact: int, steps: int, method: str
) -> None:
    problem = problems.Problem(5, most=6)
    assert len(problem.names) == 6
    monkeypatch.setattr(planner, "MAX_EXACT", exact)
    # In steps of the program: 64 subsets of six signals; four paths to each of the beam's.
    monkeypatch.setattr(planner, "_MOST_STEPS", steps * len(problem.program.analysis.live))
    plan = make_plan(problem.program, problem.values, problem.costs)
    assert plan.method == method
    assert sorted(name for stage in plan.stages for name in stage.signals) == sorted(problem.names)


def cost_of(simulation: Simulation, units: Sequence[Unit], order: Sequence[int]) -> float:
    return sum(one.seconds for one in simulation.run([units[number] for number in order]))


@pytest.mark.parametrize("seed", range(10))
def test_no_order_costs_more_than_is_still_demanded(problems: ModuleType, seed: int) -> None:
    problem = problems.Problem(seed, most=6)
    simulation, units = problem.simulation(), problem.units()
    random = np.random.default_rng(seed)
    _, worst = problems.best_of_all(problem)
    node = simulation.start()
    bound = simulation.bound(node, units)
    slack = 1.0001  # a group that is called twice pays twice for its calls
    assert worst <= bound * slack
    for number in random.permutation(len(units)):
        node, _ = simulation.step(node, int(number), units[number])
        assert simulation.bound(node, units) <= bound * slack
        bound = simulation.bound(node, units)
    assert bound == pytest.approx(node.cost)


class Burner(SignalGroup):
    """A signal that is above 0.5 on some rows, and costs CPU time."""

    def __init__(self, name: str, *, seconds: float) -> None:
        super().__init__(name, tier="model", signals={name: SignalInfo("float")}, columns=[name])
        self.seconds = seconds
        self.rows = 0

    def begin(self, chunk: pa.RecordBatch) -> Evaluation:
        return _Burning(self, chunk)


class _Burning(Evaluation):
    def __init__(self, group: Burner, chunk: pa.RecordBatch) -> None:
        self.group, self.chunk = group, chunk

    def compute(self, names: Sequence[str], rows: Rows) -> Mapping[str, SignalValues]:
        self.group.rows += len(rows)
        until = time.process_time() + self.group.seconds * len(rows)
        while time.process_time() < until:
            pass
        return {names[0]: SignalValues(self.chunk.column(names[0]).take(pa.array(rows)))}


RULES = RuleSet.model_validate(
    {
        "rule_set": "both",
        "key": "id",
        "signals": {
            name: {"kind": "measured", "function": "length", "columns": [name]} for name in ("one", "two")
        },
        "rules": [{"name": "both", "when": "one > 0.5 AND two > 0.5", "then": "remove"}],
        "default": "allow",
    }
)


def rows(count: int, *, one: float, two: float) -> pa.RecordBatch:
    """Make rows on which a share of each signal is above 0.5."""
    generator = np.random.default_rng(0)
    columns = {name: generator.random(count) < share for name, share in (("one", one), ("two", two))}
    return pa.RecordBatch.from_pydict(
        {"id": np.arange(count), **{k: v.astype(float) for k, v in columns.items()}}
    )


def test_a_plan_is_measured_and_then_compared_with_what_happened() -> None:
    batch = rows(1000, one=0.9, two=0.1)
    cheap, dear = Burner("one", seconds=2e-6), Burner("two", seconds=2e-4)
    engine = Engine(RULES, batch.schema, groups=[dear, cheap])
    plan = engine.measure_plan(batch)
    # "two" leaves a tenth of the rows open, but costs a hundred times as much.
    assert [stage.group for stage in plan.stages] == ["one", "two"]
    assert plan.method == "subsets"
    assert plan.costs["two"].signals["two"] > plan.costs["one"].signals["one"]
    assert plan.seconds is not None
    assert plan.seconds_of_everything is not None
    assert plan.seconds < plan.seconds_of_everything
    engine.use(EvaluationPlan.model_validate_json(plan.model_dump_json()))
    before = dear.rows
    engine.decide(batch)
    needed = np.count_nonzero(batch.column("one").to_numpy() > 0.5)
    assert needed <= dear.rows - before <= needed + 4  # and rows that are probed
    shown = engine.statistics.lines(engine.plan)
    assert "90." in shown[2] or "89." in shown[2] or "91." in shown[2]
    assert len(plan.lines()) == 3


def test_a_plan_is_read_as_text_beside_what_was_measured() -> None:
    plan = EvaluationPlan(
        rule_set="0123456789abcdef",
        stages=(
            StagePlan(group="words", signals=tuple("abcdefgh"), rows=1, settled=0.25, seconds=2e-6),
            StagePlan(group="trunk", signals=("spam", "tone"), rows=0.75, settled=1, seconds=12),
        ),
        method="beam",
        sample_rows=2000,
        seconds=12.000002,
        seconds_of_everything=24.000004,
    )
    assert plan.lines() == [
        (
            "plan for 0123456789ab, 2 stages (beam): 12,000,002.0 µs of CPU a row, 50.0% of computing "
            "everything; measured on 2,000 rows"
        ),
        "1. words: a, b, c, d, e, f and 2 more | on 100.0% of the rows, 2.0 µs | 25.0% settled",
        "2. trunk: spam, tone | on 75.0% of the rows, 12,000,000.0 µs | 100.0% settled",
    ]
    measured = PlanStatistics(
        rows=400,
        overhead=4e-4,
        stages=(
            StageStatistics(rows=400, calls=1, seconds=8e-4, settled=40),
            StageStatistics(rows=360, calls=1, seconds=0.4, settled=360),
        ),
    )
    assert measured.lines(plan) == [
        "400 rows: 1,002.0 µs of CPU a row for signals, 12,000,002.0 expected, 1.0 for the engine",
        "1. words: 100.0% of the rows (100.0% expected), 2.0 µs (2.0 expected), 10.0% settled",
        "2. trunk: 90.0% of the rows (75.0% expected), 1,000.0 µs (12,000,000.0 expected), 90.0% settled",
    ]
    unmeasured = plan_by_tiers(
        "0123456789abcdef", {"trunk": ("model", ("spam",)), "rest": ("explicit", ("a",))}
    )
    assert unmeasured.lines() == ["plan for 0123456789ab, 2 stages (tiers)", "1. rest: a", "2. trunk: spam"]
    assert measured.lines(unmeasured) == [
        "400 rows: 1,002.0 µs of CPU a row for signals, 1.0 for the engine",
        "1. rest: 100.0% of the rows, 2.0 µs, 10.0% settled",
        "2. trunk: 90.0% of the rows, 1,000.0 µs, 90.0% settled",
    ]


def test_a_plan_that_says_little_is_read_as_what_it_says() -> None:
    stages = (
        StagePlan(group="one", signals=tuple("abcdef"), rows=0.5),
        StagePlan(group="two", signals=tuple("abcdefg"), settled=0.5),
        StagePlan(group="three", signals=("a",), seconds=1e-6),
    )
    # A plan of columns costs nothing, and so does everything.
    plan = EvaluationPlan(rule_set="0123", stages=stages, seconds=0, seconds_of_everything=0)
    assert plan.lines() == [
        "plan for 0123, 3 stages (tiers)",
        "1. one: a, b, c, d, e, f",
        "2. two: a, b, c, d, e, f and 1 more",
        "3. three: a",
    ]
    stage = StageStatistics(rows=1, calls=1, seconds=2e-6, settled=1)
    one_row = PlanStatistics(rows=1, overhead=3e-6, stages=(stage, stage, StageStatistics()))
    assert one_row.lines(plan) == [
        "1 rows: 4.0 µs of CPU a row for signals, 0.0 expected, 3.0 for the engine",
        "1. one: 100.0% of the rows (50.0% expected), 2.0 µs, 100.0% settled",
        "2. two: 100.0% of the rows, 2.0 µs, 100.0% settled",
        "3. three: 0.0% of the rows, 0.0 µs (1.0 expected), 0.0% settled",
    ]
    assert "0 rows: 0.0 µs of CPU a row" in PlanStatistics(stages=(StageStatistics(),) * 3).lines(plan)[0]
    with pytest.raises(ValueError, match="shorter"):  # statistics of another plan
        PlanStatistics(rows=1, stages=(stage,)).lines(plan)


def test_without_costs_cheap_tiers_come_first() -> None:
    tiers: dict[str, tuple[Tier, tuple[str, ...]]] = {
        "trunk": ("model", ("c",)),
        "size": ("measured", ("b",)),
        "none": ("explicit", ()),
        "rest": ("explicit", ("a",)),
    }
    plan = plan_by_tiers("0123", tiers)
    assert (plan.rule_set, plan.method, plan.seconds) == ("0123", "tiers", None)
    assert [stage.group for stage in plan.stages] == ["rest", "size", "trunk"]


def test_a_plan_follows_the_data_and_the_decisions_do_not_change() -> None:
    before, after = rows(2000, one=0.1, two=0.9), rows(40_000, one=0.95, two=0.05)
    groups = [Burner("one", seconds=2e-5), Burner("two", seconds=4e-5)]
    engine = Engine(RULES, before.schema, groups=groups)
    engine.use(engine.measure_plan(before))
    assert [stage.group for stage in engine.plan.stages] == ["one", "two"]
    found = engine.outcomes(after)
    assert [stage.group for stage in engine.plan.stages] == ["two", "one"]
    assert engine.planning.history
    assert (found == engine.evaluate_fully(after).outcomes).all()


def test_a_free_signal_that_settles_half_the_rows_comes_first() -> None:
    program = program_of(["free", "dear"], "dear > 0.9 AND NOT free > 0.5")
    values = {
        name: pa.array(np.random.default_rng(number).random(500))
        for number, name in enumerate(program.compiled.base)
    }
    costs = {
        "dear": GroupCost(tier="model", row=1e-3, batch=1e-2, signals={"dear": 1e-6}),
        "free": GroupCost(signals={"free": 0.0}),
    }
    plan = make_plan(program, values, costs, batch_rows=100)
    assert [stage.group for stage in plan.stages] == ["free", "dear"]
    assert (plan.sample_rows, plan.batch_rows) == (500, 100)
    share = plan.stages[1].rows
    assert share is not None
    assert share == pytest.approx(0.5, abs=0.1)
    assert [stage.settled for stage in plan.stages] == [pytest.approx(1 - share), 1.0]
    assert [stage.seconds for stage in plan.stages] == [0.0, plan.seconds]
    assert make_plan(program, values, costs).batch_rows == EvaluationPlan.model_fields["batch_rows"].default
    # The trunk is called once for a hundred rows, half of which need it.
    assert plan.seconds == pytest.approx(share * (1e-3 + 1e-6) + 1e-4)
    assert plan.seconds_of_everything == pytest.approx(1e-3 + 1e-6 + 1e-4)
    nobody = Simulation(program, {name: column[:0] for name, column in values.items()}, costs, batch_rows=100)
    assert nobody.run([Unit("dear", ("dear",))]) == [StageFigures(rows=0.0, settled=1.0, seconds=0.0)]


def test_what_an_order_costs_is_counted_on_the_sample() -> None:
    program = program_of(
        ["a", "b", "c", "d"], "c > 0.5 AND ((a > 0.5 AND d > 0.5) OR (NOT a > 0.5 AND b > 0.5))"
    )
    columns = {"a": [0, 1, 0, 0], "b": [0, 0, 1, 0], "c": [0, 1, 1, 1], "d": [0, 1, 0, 0]}
    costs = {
        "words": GroupCost(signals={"c": 1e-6}),
        "trunk": GroupCost(tier="model", row=1e-3, batch=1e-2, signals={"a": 2e-4, "b": 3e-4, "d": 4e-4}),
    }
    values = {name: pa.array(column, pa.float64()) for name, column in columns.items()}
    simulation = Simulation(program, values, costs, batch_rows=2)
    units = [Unit("words", ("c",)), *(Unit("trunk", (name,)) for name in "abd")]
    # "c" leaves three rows; "a" leaves two of them to "b" and one to "d", and all three have paid the trunk.
    # A call is for two rows: one of them needs it with a probability of 1 - (1 - share)².
    expected = [
        (1.0, 0.25, 1e-6),
        (0.75, 0.25, 0.75 * (2e-4 + 1e-3) + (1 - 0.25**2) * 5e-3),
        (0.5, 0.75, 0.5 * 3e-4 + (1 - 0.5**2) * 5e-3),
        (0.25, 1.0, 0.25 * 4e-4 + (1 - 0.75**2) * 5e-3),
    ]
    figures = simulation.run(units)
    assert [(one.rows, one.settled) for one in figures] == [one[:2] for one in expected]
    assert [one.seconds for one in figures] == pytest.approx([seconds for _, _, seconds in expected])
    start = simulation.start()
    assert (start.known, start.order, start.cost, start.settled) == (0, (), 0.0, 0.0)
    assert simulation.bound(start, units) == pytest.approx(1e-6 + 1e-3 + 9e-4 + 5e-3)
    after, _ = simulation.step(start, 0, units[0])
    assert (after.known, after.order) == (1, (0,))
    assert after.cost == pytest.approx(1e-6)
    left = 0.75 * (1e-3 + 9e-4) + (1 - 0.25**2) * 5e-3
    assert simulation.bound(after, units) == pytest.approx(1e-6 + left)
    again, figure = simulation.step(after, 0, units[0])  # what is known is needed nowhere
    assert (figure, again.cost) == (StageFigures(0.0, 0.25, 0.0), after.cost)


def test_rules_without_signals_need_no_plan() -> None:
    program = program_of(["a"], "TRUE")
    assert Simulation(program, {}, {}, batch_rows=10).rows == 0
    plan = make_plan(program, {}, {})
    assert (plan.stages, plan.method, plan.sample_rows) == ((), "subsets", 0)
    assert (plan.seconds, plan.seconds_of_everything) == (0, 0)


def test_each_subset_has_one_path(problems: ModuleType) -> None:
    problem = problems.Problem(5, most=6)
    simulation, units = problem.simulation(), problem.units()
    layer = {0: simulation.start()}
    for known in range(1, len(units) + 1):
        layer = planner._next_layer(simulation, units, layer.values())
        assert len(layer) == math.comb(len(units), known)
        for number, node in layer.items():
            assert number == node.known == sum(1 << one for one in node.order)
            assert node.cost == pytest.approx(cost_of(simulation, units, node.order))


def test_cheap_signals_stay_with_their_trunk_and_cheap_tiers_come_first() -> None:
    names = list("abcdefg")
    program = program_of(names, " AND ".join(f"{name} > 0.5" for name in names))
    costs = {
        "nothing": GroupCost(signals={"unused too": 1.0}),
        "trunk": GroupCost(tier="model", row=1e-3, batch=1e-2, signals={"a": 1e-5, "b": 1e-5, "unused": 1.0}),
        "other": GroupCost(tier="model", row=1.01e-3, signals={"c": 1e-9}),
        "split": GroupCost(tier="measured", signals={"d": 5e-6, "e": 1e-6}),
        "cheap": GroupCost(row=2e-6, signals={"f": 0.0}),
        "cheaper": GroupCost(row=1e-6, signals={"g": 0.0}),
    }
    assert planner._units(costs, names) == [
        *(Unit("cheaper", ("g",)), Unit("cheap", ("f",)), Unit("split", ("e",)), Unit("split", ("d",))),
        *(Unit("other", ("c",)), Unit("trunk", ("a", "b"))),
    ]
    free = {"free": GroupCost(signals={"a": 0.0, "b": 0.0})}
    assert planner._units(free, names) == [Unit("free", ("a", "b"))]
    values = {name: pa.array(np.random.default_rng(0).random(50)) for name in names}
    simulation = Simulation(program, values, costs, batch_rows=10)
    # One call is cheaper than two.
    assert planner._merged(simulation, [Unit("trunk", ("a",)), Unit("trunk", ("b",))]) == [
        Unit("trunk", ("a", "b"))
    ]


def program_of(names: Sequence[str], when: str) -> RuleProgram:
    rule_set = RuleSet.model_validate(
        {
            "rule_set": "one",
            "key": "id",
            "signals": {name: {"kind": "column"} for name in names},
            "rules": [{"name": "only", "when": when, "then": "remove"}],
            "default": "allow",
        }
    )
    return RuleProgram(compile_rule_set(rule_set, dict.fromkeys(names, "float")))


def test_an_empty_sample_leaves_the_plan_as_it_is() -> None:
    batch = rows(0, one=0.5, two=0.5)
    engine = Engine(RULES, batch.schema, groups=[Burner("one", seconds=0), Burner("two", seconds=0)])
    assert engine.measure_plan(batch) == engine.plan
    for count in (1, 2, 3, 10):
        few: Any = rows(count, one=0.5, two=0.5)
        engine.use(engine.measure_plan(few))
        assert (engine.outcomes(few) == engine.evaluate_fully(few).outcomes).all()


def test_a_plan_is_drawn() -> None:
    batch = rows(100, one=0.9, two=0.1)
    engine = Engine(RULES, batch.schema, groups=[Burner("one", seconds=0), Burner("two", seconds=0)])
    engine.use(engine.measure_plan(batch))
    engine.decide(batch)
    figure = plan_figure(engine.plan, engine.statistics)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [
        f"{number + 1}. {stage.group}: {stage.group}" for number, stage in enumerate(engine.plan.stages)
    ]
