"""Training transformer students: many for a short while, the few that may win to the end.

Successive halving (K. Jamieson and A. Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter
Optimization", 2016, arXiv 1502.07943): each round trains what is left some passes further and drops most of
it. How fast a student will be is known before it learns anything, so what is ranked is not quality alone: the
fastest go on that may keep the budget, and beside them the fastest that seem sure to, or the best ones. On a
few hundred rows that is a guess, within one standard error as in L. Breiman et al., *Classification and
Regression Trees*, 1984.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from modelmill.component import StepContext
from modelmill.compression.pruning.heads import attention_heads
from modelmill.compression.pruning.inner_units import inner_units
from modelmill.compression.search.problem import Task
from modelmill.compression.search.recipes import Structure
from modelmill.models.classifier import Classifier, all_logits
from modelmill.models.lexical import UNFITTED_SCALES
from modelmill.training.lexical_head import add_lexical_head
from modelmill.training.options import TrainingOptions
from modelmill.training.soft_labels import distillation_loss
from modelmill.training.student import make_student
from modelmill.training.trainer import train

_ROUNDS = (0.1, 0.25, 0.65)
"""Shares of the passes over the train split that each round trains."""
_SURVIVORS = 3
"""One of so many goes on to the next round; at least two."""
_FEWEST = 2
_HOPELESS = 0.1
"""A drop so far beyond the budget ends a student's training even where others are worse."""


@dataclass(frozen=True)
class Standing:
    """How a student does on the rows that candidates are ranked by."""

    structure: Structure
    drop: float
    """Accuracy of the teacher minus that of the student."""
    loss: float
    """Mean negative logarithm of the probability of the right class."""
    doubt: float = 0.0
    """Standard error of the drop."""


class Students:
    """The students of a task, and how far each has been trained.

    :param task: the compression.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self._models: dict[Structure, Classifier] = {}
        self._rounds: dict[Structure, int] = {}

    def search(self, structures: Sequence[Structure]) -> list[Structure]:
        """Train students in rounds, each with fewer of them.

        :param structures: what to try, the fastest first.
        :return: those that were trained to the end, the fastest first: all in an exhaustive search.
        """
        config, left = self.task.config, list(structures)
        rounds = (1.0,) if config.exhaustive else _ROUNDS
        for number, share in enumerate(rounds):
            standings = [self._train(structure, share * config.epochs) for structure in left]
            last = number == len(rounds) - 1
            if not last:
                count = max(_FEWEST, math.ceil(len(left) / _SURVIVORS))
                left = survivors(
                    standings, count, limit=config.budget.max_metric_drop, quality=config.prefer == "quality"
                )
                self._forget(left)
        return left

    def model(self, structure: Structure) -> Classifier:
        """Return a trained student, with the teacher's lexical head if it has one.

        :param structure: one of those that :meth:`search` returned.
        :return: the student, in evaluation mode.
        """
        return self._models[structure]

    def untrained(self, structure: Structure) -> Classifier:
        """Return a student that has learned nothing yet: to see what it costs.

        :param structure: its structure.
        :return: the student, in evaluation mode, with the teacher's lexical head if it has one.
        """
        model = self._models[structure] = self._start(structure)
        if self.task.teacher.lexical is not None:
            model.attach(self.task.teacher.lexical, UNFITTED_SCALES, encoder_tokens=structure.tokens)
        return model.eval()

    def _forget(self, left: Sequence[Structure]) -> None:
        for structure in set(self._models) - set(left):
            del self._models[structure]

    def _train(self, structure: Structure, epochs: float) -> Standing:
        task, round_ = self.task, self._rounds.get(structure, 0)
        model = self._models.get(structure) or self._start(structure)
        if model.lexical is not None:
            model.lexical = None
        torch.manual_seed(task.config.seed)
        context = _named(task.context, f"{structure}, round {round_ + 1}")
        train(
            model,
            task.train.cut(structure.tokens),
            validation=None,
            loss=distillation_loss(
                task.soft,
                temperature=task.config.temperature,
                soft_weight=task.config.soft_weight,
                task=task.info.task,
            ),
            options=_training(task, epochs, round_),
            workspace=context,
        )
        self._models[structure], self._rounds[structure] = model, round_ + 1
        if task.teacher.lexical is not None:
            add_lexical_head(
                model,
                task.teacher.lexical,
                task.choosing.data,
                encoder_tokens=structure.tokens,
                workspace=context,
            )
        standing = self._standing(structure, model)
        task.context.log(
            f"{structure}: {epochs:.2g} passes more, {100 * standing.drop:+.2f} points below the teacher on "
            f"{len(task.choosing)} rows"
        )
        return standing

    def _start(self, structure: Structure) -> Classifier:
        """Return a student of the teacher's layers, and of each of them the most important units."""
        task = self.task
        student = make_student(task.teacher, layers=structure.layers, dropout=0.0)
        rows = task.train.cut(structure.tokens)
        if structure.width < 1:
            student = inner_units(student, keep=structure.width, rows=rows)
        if structure.heads < 1:
            student = attention_heads(student, keep=structure.heads, rows=rows)
        return student

    def _standing(self, structure: Structure, model: Classifier) -> Standing:
        rows = self.task.choosing
        # A lexical head reads on where the encoder stops; without one the text ends there.
        read = rows.data if model.lexical is not None else rows.data.cut(structure.tokens)
        logits = all_logits(model.eval(), read.tokens).astype(np.float64)
        shifted = logits - logits.max(axis=1, keepdims=True)
        logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        lost = rows.teacher_right.astype(np.float64) - rows.right(logits.astype(np.float32))
        return Standing(
            structure,
            drop=float(lost.mean()),
            loss=-float(logs[np.arange(len(rows)), rows.data.targets].mean()),
            doubt=float(lost.std() / math.sqrt(len(rows))),
        )


def survivors(
    standings: Sequence[Standing], count: int, *, limit: float, quality: bool = False
) -> list[Structure]:
    """Choose which students go on.

    :param standings: the students, the fastest first.
    :param count: how many go on at most.
    :param limit: drop that the budget allows.
    :param quality: whether the best student is wanted, instead of the fastest or smallest.
    :return: in turns the fastest that may keep the limit and, where quality is wanted or none is sure to, the
        best of all, else the fastest that are sure to; the fastest first.
    """
    hopeful = [entry for entry in standings if entry.drop - entry.doubt <= limit]
    sure = [] if quality else [entry for entry in standings if entry.drop + entry.doubt <= limit]
    good = sorted(standings, key=lambda entry: (entry.drop > limit + _HOPELESS, entry.loss))
    turns = [entry for pair in zip([*hopeful, *good], [*sure, *good], strict=False) for entry in pair]
    chosen = list(dict.fromkeys(entry.structure for entry in turns))[:count]
    return [entry.structure for entry in standings if entry.structure in chosen]


def _training(task: Task, epochs: float, round_: int) -> TrainingOptions:
    config = task.config
    return TrainingOptions(
        epochs=epochs,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        seed=config.seed + round_,
        checkpoint_seconds=120,
    )


def _named(context: StepContext, name: str) -> StepContext:
    """Return the step's context with a student's own folder and metric names: their curves must not mix."""
    workdir = context.workdir / "students" / name
    workdir.mkdir(parents=True, exist_ok=True)
    run = copy.copy(context.run)
    run.metric_prefix = "".join(char if char.isalnum() or char in " ._-" else "_" for char in name) + "/"
    return dataclasses.replace(context, workdir=workdir, run=run, log=lambda _line: None)
