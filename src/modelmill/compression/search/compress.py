"""From a teacher and a budget to the model that keeps it.

The candidates are the paths through a graph of steps: distil to fewer layers, prune inner units and heads,
read fewer tokens, prune the vocabulary, quantise; or leave the encoder out and keep a table of tokens. Cheap
steps come first: what a candidate will cost is known before it learns anything, static students are fitted in
seconds, and transformer students are trained in rounds that only the promising ones survive. Then the few
that are left are exported, measured in their serving runtime, and judged. A step that breaks the budget on
the rows for ranking is undone: the same student is finished with more of the vocabulary, or without
quantisation.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from modelmill.compression.options import CompressionOptions
from modelmill.compression.pruning.vocabulary import is_prunable
from modelmill.compression.search.budget import hard_limits, points
from modelmill.compression.search.candidates import (
    Candidate,
    static_candidate,
    transformer_candidate,
    write_transformer,
)
from modelmill.compression.search.measurement import (
    MORE_ROUNDS,
    MeasuredCandidate,
    measure,
    measure_speeds,
)
from modelmill.compression.search.recipes import Line, Recipe, Structure, recipes
from modelmill.compression.search.report import compression_report
from modelmill.compression.search.results import CompressionReport
from modelmill.compression.search.search import Search, prepare
from modelmill.compression.search.selection import choose
from modelmill.compression.search.students import Students
from modelmill.evaluation.latency import MIN_ROUNDS
from modelmill.models.bundle import bundle_bytes
from modelmill.models.classifier import Classifier
from modelmill.tasks.examples import LabelledData
from modelmill.tokens.texts import Texts
from modelmill.training.teacher import Teacher
from modelmill.workspace import Workspace

_BENEFIT_OF_DOUBT = 1.2
"""A structure is left out untrained only if it is expected to miss a limit by more than this factor."""
_SIZE_DOUBT = 1.03


@dataclass(frozen=True)
class CompressionResult:
    """What a search found."""

    chosen: MeasuredCandidate
    measured: Sequence[MeasuredCandidate]
    """All that were measured, the fastest first; each is a bundle in the work directory."""
    report: CompressionReport
    """Its points are those of ``measured``, in the same order."""

    @property
    def folder(self) -> Path:
        """The chosen model's bundle."""
        return self.chosen.candidate.folder

    @property
    def metrics(self) -> dict[str, float]:
        """What was measured of the chosen model, by name."""
        return next(point for point in self.report.points if point.chosen).metrics


def compress(
    data: LabelledData, texts: Texts, teacher: Teacher, options: CompressionOptions, workspace: Workspace
) -> CompressionResult:
    """Search for the model that keeps a budget.

    :param data: labelled rows of the texts, which the teacher learned.
    :param texts: all texts.
    :param teacher: a model of format ``torch``.
    :param options: the budget, and what is tried.
    :param workspace: gets checkpoints, bundles, metrics and the log; its cache keeps the teacher's logits,
        and what the next search can use: see :mod:`modelmill.compression.search.store`.
    :return: the chosen model, and what else was measured.
    :raises InputError: if the teacher does not fit the rows, or there are too few validation rows.
    :raises ConfigError: if no candidate keeps the budget: which limit the nearest one breaks, and by how
        much.
    """
    began = time.process_time()
    search = prepare(data, texts, teacher, options, workspace)
    with search.store.open(on_wait=lambda: workspace.log("another search with the same rows is running")):
        return _search(search, began)


def _search(search: Search, began: float) -> CompressionResult:
    options, workspace, teacher = search.options, search.workspace, search.teacher
    tokenizer = teacher.folder / "tokenizer.json"
    considered = recipes(options.space, search.shape, prunable=is_prunable(tokenizer))
    workspace.log(f"{len(considered)} candidates")
    students = Students(search)
    candidates = [*_teachers(considered, search), *_statics(considered, search)]
    structures = _worth_training(considered, candidates[0], students, search)
    for structure in students.train(structures):
        finishes = [recipe for recipe in considered if recipe.structure == structure]
        candidates += _finished(finishes, partial(students.model, structure), search)
    workspace.log(f"measuring {len(candidates)} models side by side")
    speed, measured = measure(candidates, search)
    place = measured.index(choose(measured, options))
    measured = [_placed(item, workspace.workdir / "bundles") for item in measured]
    chosen = measured[place]
    report = compression_report(
        search,
        speed,
        measured,
        chosen,
        candidates=len(considered),
        trained=len(structures),
        cpu_seconds=time.process_time() - began,
    )
    return CompressionResult(chosen, measured, report)


def _placed(item: MeasuredCandidate, folder: Path) -> MeasuredCandidate:
    """Return a candidate with its bundle in the work directory: in the store it may be removed later."""
    candidate = item.candidate
    place = folder / candidate.folder.name
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(candidate.folder, place, copy_function=_link)
    return replace(item, candidate=replace(candidate, folder=place))


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # the cache is on another disk
        shutil.copyfile(source, target)


def _teachers(considered: Sequence[Recipe], search: Search) -> Iterator[Candidate]:
    """Make the teacher's own exports: the smallest, and the plain one, which is the last to fall back on."""
    wanted = [recipe for recipe in considered if recipe.family == "teacher"]
    for recipe in wanted if search.options.exhaustive else dict.fromkeys([wanted[0], wanted[-1]]):
        yield _logged(transformer_candidate(recipe, lambda: search.classifier, search), search)


def _statics(considered: Sequence[Recipe], search: Search) -> Iterator[Candidate]:
    wanted = [recipe for recipe in considered if recipe.family == "static"]
    if not search.options.exhaustive:
        # Of each table the smallest file: 16 bits and fewer tokens cost hardly any accuracy.
        wanted = [recipe for recipe in wanted if recipe.half and recipe.vocabulary == wanted[0].vocabulary]
    for recipe in wanted:
        yield _logged(static_candidate(recipe, search), search)


def _worth_training(
    considered: Sequence[Recipe], teacher: Candidate, students: Students, search: Search
) -> list[Structure]:
    """Leave out the structures that are expected to miss a limit.

    The smallest student is exported before it has learned anything, and measured beside the teacher's own
    export, which is finished in the same way. What the others will cost lies between the two: time grows with
    the multiplications, size with the weights.
    """
    budget, shape = search.options.budget, search.shape
    finishes = [recipe for recipe in considered if recipe.family == "transformer" and recipe.structure]
    structures = [
        structure for structure in dict.fromkeys(recipe.structure for recipe in finishes) if structure
    ]
    limited = budget.max_latency_ms or budget.min_throughput_ratio or budget.max_size_mb
    if search.options.exhaustive or not structures or not limited:
        return structures
    with tempfile.TemporaryDirectory(dir=search.workspace.workdir, prefix="probe-") as scratch:
        probe = Path(scratch, "bundle")
        write_transformer(probe, finishes[0], students.untrained(structures[0]), search)
        ends, folders = (shape.whole, structures[0]), (teacher.folder, probe)
        sizes = [bundle_bytes(folder) / 1e6 for folder in folders]
        size = Line.through([shape.weights(structure) for structure in ends], sizes)

        def fitting(rounds: int) -> list[Structure]:
            _, speeds = measure_speeds(folders, search, rounds=rounds)
            work = [shape.work(structure) for structure in ends]
            seconds = Line.through(work, [1 / speed.ratio.high for speed in speeds])
            latency = Line.through(work, [speed.latency.p95_interval[0] for speed in speeds])

            def may_fit(structure: Structure) -> bool:
                limits = hard_limits(
                    budget,
                    latency_ms=latency.at(shape.work(structure)) / _BENEFIT_OF_DOUBT,
                    throughput_ratio=_BENEFIT_OF_DOUBT / seconds.at(shape.work(structure)),
                    size_mb=size.at(shape.weights(structure)) / _SIZE_DOUBT,
                )
                return all(limit.kept for limit in limits)

            return [structure for structure in structures if may_fit(structure)]

        left = fitting(MIN_ROUNDS)
        if len(left) < len(structures) and (budget.max_latency_ms or budget.min_throughput_ratio):
            again = fitting(MORE_ROUNDS)
            left = [structure for structure in structures if structure in left or structure in again]
    search.workspace.log(
        f"{len(structures) - len(left)} of {len(structures)} students would be too slow or large"
    )
    return left


def _finished(
    finishes: Sequence[Recipe], model: Callable[[], Classifier], search: Search
) -> Iterator[Candidate]:
    """Prune a student's vocabulary and quantise it; where that breaks the budget, try the next finish."""
    for recipe in finishes:
        candidate = _logged(transformer_candidate(recipe, model, search), search)
        yield candidate
        within = candidate.ranking_drop <= search.options.budget.max_metric_drop
        if within and not search.options.exhaustive:
            return


def _logged(candidate: Candidate, search: Search) -> Candidate:
    search.workspace.log(
        f"{candidate.recipe}: {candidate.size_mb:.2f} MB, "
        f"{points(candidate.ranking_drop, search.ranking.metric)} below the teacher on "
        f"{len(search.ranking)} rows"
    )
    return candidate
