"""The one click: from a teacher and a budget to the model that keeps it.

The candidates are the paths through a graph of steps: distil to fewer layers, prune inner units, read fewer
tokens, prune the vocabulary, quantise; or leave the encoder out and keep a table of tokens. Cheap steps come
first: what a candidate will cost is known before it learns anything, static students are fitted in seconds,
and transformer students are trained in rounds that only the promising ones survive. Then the few that are
left are exported, measured in their serving runtime, and judged. A step that breaks the budget on the rows
for ranking is rolled back: the same student is finished with more of the vocabulary, or without quantisation.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from modelmill.artifacts import DatasetRef, ModelRef, ReportRef
from modelmill.component import StepContext
from modelmill.compression.options import CompressionOptions
from modelmill.compression.pruning.vocabulary import is_prunable
from modelmill.compression.search.budget import hard_limits
from modelmill.compression.search.candidates import make_static, make_transformer
from modelmill.compression.search.measurement import Made, measure, measure_speeds
from modelmill.compression.search.problem import Task, prepare
from modelmill.compression.search.recipes import Line, Recipe, Structure, recipes
from modelmill.compression.search.report import publish
from modelmill.compression.search.selection import choose
from modelmill.compression.search.students import Students
from modelmill.errors import ConfigError

_BENEFIT_OF_DOUBT = 1.2
"""A structure is left out untrained only if it is expected to miss a limit by more than this factor."""
_SIZE_DOUBT = 1.03


def run(
    config: CompressionOptions, dataset: DatasetRef, teacher: ModelRef, context: StepContext
) -> tuple[ModelRef, ReportRef]:
    """Compress a teacher.

    :param config: the budget, and what is tried.
    :param dataset: what the teacher learned.
    :param teacher: a ``torch`` model.
    :param context: the step.
    :return: the chosen model, role ``compressed``, and the report: a
        :class:`~modelmill.compression.search.results.CompressionReport` as JSON.
    :raises InputError: if the teacher does not fit the dataset, or there are too few validation rows.
    :raises ConfigError: if no candidate keeps the budget; then nothing is logged.
    """
    began = time.process_time()
    task = prepare(config, dataset, teacher, context)
    candidates = recipes(config.space, task.shape, prunable=is_prunable(task.folder / "tokenizer.json"))
    context.log(f"{len(candidates)} candidates")
    students = Students(task)
    made = [*_make_teachers(candidates, task), *_make_statics(candidates, task)]
    structures = _worth_training(candidates, made, students, task)
    for structure in students.search(structures):
        made += _finish([recipe for recipe in candidates if recipe.structure == structure], students, task)
    context.log(f"measuring {len(made)} models side by side")
    speed, measured = measure(made, task)
    chosen = choose(measured, config)
    return publish(
        task,
        speed,
        measured,
        chosen,
        candidates=len(candidates),
        trained=len(structures),
        cpu_seconds=time.process_time() - began,
    )


def _make_teachers(candidates: Sequence[Recipe], task: Task) -> Iterator[Made]:
    """Make the teacher's own exports: the smallest, and the plain one, which is the last to fall back on."""
    wanted = [recipe for recipe in candidates if recipe.family == "teacher"]
    for recipe in wanted if task.config.exhaustive else dict.fromkeys([wanted[0], wanted[-1]]):
        yield _made(recipe, make_transformer(recipe, task.teacher, task, _place(recipe, task)), task)


def _make_statics(candidates: Sequence[Recipe], task: Task) -> Iterator[Made]:
    wanted = [recipe for recipe in candidates if recipe.family == "static"]
    if not task.config.exhaustive:
        # Of each table the smallest file: its numbers and its words cost nothing to take first.
        wanted = [recipe for recipe in wanted if recipe.half and recipe.vocabulary == wanted[0].vocabulary]
    for recipe in wanted:
        yield _made(recipe, make_static(recipe, task, _place(recipe, task)), task)


def _worth_training(
    candidates: Sequence[Recipe], made: Sequence[Made], students: Students, task: Task
) -> list[Structure]:
    """Leave out the structures that are expected to miss a limit.

    The smallest student is exported before it has learned anything, and measured beside the teacher's own
    export, which is finished in the same way. What the others will cost lies between the two: time grows with
    the multiplications, size with the weights.
    """
    budget, shape = task.config.budget, task.shape
    finishes = [recipe for recipe in candidates if recipe.family == "transformer" and recipe.structure]
    structures = [
        structure for structure in dict.fromkeys(recipe.structure for recipe in finishes) if structure
    ]
    limited = budget.max_latency_ms or budget.min_throughput_ratio or budget.max_size_mb
    if task.config.exhaustive or not structures or not limited:
        return structures
    probe = finishes[0]
    folder = make_transformer(probe, students.untrained(structures[0]), task, _place(probe, task))
    ends = (shape.whole, structures[0])
    items = [made[0], Made.of(probe, folder, task)]
    _, speeds = measure_speeds(items, task)
    work = [shape.work(structure) for structure in ends]
    seconds = Line.through(work, [1 / speed.ratio for speed in speeds])
    latency = Line.through(work, [speed.latency.p95_ms for speed in speeds])
    size = Line.through([shape.weights(structure) for structure in ends], [item.size_mb for item in items])

    def may_fit(structure: Structure) -> bool:
        limits = hard_limits(
            budget,
            latency_ms=latency.at(shape.work(structure)) / _BENEFIT_OF_DOUBT,
            throughput_ratio=_BENEFIT_OF_DOUBT / seconds.at(shape.work(structure)),
            size_mb=size.at(shape.weights(structure)) / _SIZE_DOUBT,
        )
        return all(limit.kept for limit in limits)

    left = [structure for structure in structures if may_fit(structure)]
    task.context.log(
        f"{len(structures) - len(left)} of {len(structures)} students would be too slow or large"
    )
    return left


def _finish(finishes: Sequence[Recipe], students: Students, task: Task) -> Iterator[Made]:
    """Prune the vocabulary of a student and quantise it, and roll back what breaks the budget."""
    limit = task.config.budget.max_metric_drop
    for recipe in finishes:
        if recipe.structure is None:
            raise ConfigError("a student must have a structure", got=recipe)
        model = students.model(recipe.structure)
        item = _made(recipe, make_transformer(recipe, model, task, _place(recipe, task)), task)
        yield item
        if not task.config.exhaustive and item.choosing_drop <= limit:
            return


def _made(recipe: Recipe, folder: Path, task: Task) -> Made:
    item = Made.of(recipe, folder, task)
    task.context.log(
        f"{recipe}: {item.size_mb:.2f} MB, {100 * item.choosing_drop:+.2f} points below the teacher on "
        f"{len(task.choosing)} rows"
    )
    return item


def _place(recipe: Recipe, task: Task) -> Path:
    name = "".join(char if char.isalnum() else "_" for char in str(recipe))
    return task.context.workdir / "candidates" / name
