"""Training transformer students: many for a short while, the few that may win to the end.

Successive halving (K. Jamieson and A. Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter
Optimization", 2016, arXiv 1502.07943): each round trains the students that are left for some more passes, and
drops most of them. How fast a student will be is known before it learns anything, so the ranking is not by
quality alone: the fastest that may keep the budget go on, and with them the fastest that almost surely keep
it, or the best. A few hundred rows leave doubt, which is taken as one standard error, as in L. Breiman et
al., *Classification and Regression Trees*, 1984.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from modelmill.compression.pruning.heads import attention_heads
from modelmill.compression.pruning.inner_units import inner_units
from modelmill.compression.search.recipes import Structure
from modelmill.compression.search.search import Search
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
"""One in so many goes on to the next round, but at least two do."""
_FEWEST = 2
_HOPELESS = 0.1
"""Students whose drop is this far beyond the budget come last, whatever their loss."""
_CHECKPOINT_SECONDS = 120


@dataclass(frozen=True)
class Standing:
    """How a student does on the rows that candidates are ranked on."""

    structure: Structure
    drop: float
    """Accuracy of the teacher minus that of the student."""
    loss: float
    """Mean negative logarithm of the probability of the right class."""
    doubt: float = 0.0
    """Standard error of the drop."""


class Students:
    """The students of a search, and how far each has been trained.

    :param search: the search.
    """

    def __init__(self, search: Search) -> None:
        self.search = search
        self._models: dict[Structure, Classifier] = {}
        self._rounds: dict[Structure, int] = {}

    def train(self, structures: Sequence[Structure]) -> list[Structure]:
        """Train students in rounds, each with fewer of them.

        :param structures: what to try, the fastest first.
        :return: those that were trained to the end, the fastest first: all in an exhaustive search.
        """
        options, left = self.search.options, list(structures)
        rounds = (1.0,) if options.exhaustive else _ROUNDS
        for number, share in enumerate(rounds):
            standings = [self._train_round(structure, share * options.epochs) for structure in left]
            last = number == len(rounds) - 1
            if not last:
                count = max(_FEWEST, math.ceil(len(left) / _SURVIVORS))
                left = survivors(
                    standings,
                    count,
                    limit=options.budget.max_metric_drop,
                    quality=options.prefer == "quality",
                )
                self._forget(left)
        return left

    def model(self, structure: Structure) -> Classifier:
        """Return a trained student, with the teacher's lexical head if it has one.

        :param structure: one of those that :meth:`train` returned.
        :return: the student, in evaluation mode.
        """
        return self._models[structure]

    def untrained(self, structure: Structure) -> Classifier:
        """Return a student that has learned nothing yet, so that its cost can be measured.

        :param structure: its structure.
        :return: the student, in evaluation mode, with the teacher's lexical head if it has one.
        """
        model = self._models[structure] = self._start(structure)
        if self.search.classifier.lexical is not None:
            model.attach(self.search.classifier.lexical, UNFITTED_SCALES, encoder_tokens=structure.tokens)
        return model.eval()

    def _forget(self, left: Sequence[Structure]) -> None:
        for structure in set(self._models) - set(left):
            del self._models[structure]

    def _train_round(self, structure: Structure, epochs: float) -> Standing:
        search, options, round_ = self.search, self.search.options, self._rounds.get(structure, 0)
        model = self._models.get(structure) or self._start(structure)
        model.lexical = None
        torch.manual_seed(options.seed)
        workspace = search.workspace.part("students", f"{structure}, round {round_ + 1}")
        train(
            model,
            search.train.cut(structure.tokens),
            validation=None,
            loss=distillation_loss(
                search.soft,
                temperature=options.temperature,
                soft_weight=options.soft_weight,
                task=search.train.task,
            ),
            options=TrainingOptions(
                epochs=epochs,
                batch_size=options.batch_size,
                learning_rate=options.learning_rate,
                seed=options.seed + round_,
                checkpoint_seconds=_CHECKPOINT_SECONDS,
            ),
            workspace=workspace,
        )
        self._models[structure], self._rounds[structure] = model, round_ + 1
        if search.classifier.lexical is not None:
            add_lexical_head(
                model,
                search.classifier.lexical,
                search.ranking.encoded,
                encoder_tokens=structure.tokens,
                workspace=workspace,
            )
        standing = self._standing(structure, model)
        search.workspace.log(
            f"{structure}: {epochs:.2g} passes more, {100 * standing.drop:+.2f} points below the teacher on "
            f"{len(search.ranking)} rows"
        )
        return standing

    def _start(self, structure: Structure) -> Classifier:
        """Return a student made of some of the teacher's layers, each with its most important units."""
        search = self.search
        student = make_student(search.classifier, layers=structure.layers, dropout=0.0)
        rows = search.train.cut(structure.tokens)
        if structure.width < 1:
            student = inner_units(student, keep=structure.width, rows=rows)
        if structure.heads < 1:
            student = attention_heads(student, keep=structure.heads, rows=rows)
        return student

    def _standing(self, structure: Structure, model: Classifier) -> Standing:
        rows = self.search.ranking
        # A lexical head reads beyond the encoder's last token; without one the text ends there.
        read = rows.encoded if model.lexical is not None else rows.encoded.cut(structure.tokens)
        logits = all_logits(model.eval(), read.tokens).astype(np.float64)
        shifted = logits - logits.max(axis=1, keepdims=True)
        logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        lost = rows.teacher_right.astype(np.float64) - rows.right(logits.astype(np.float32))
        return Standing(
            structure,
            drop=float(lost.mean()),
            loss=-float(logs[np.arange(len(rows)), rows.encoded.targets].mean()),
            doubt=float(lost.std() / math.sqrt(len(rows))),
        )


def survivors(
    standings: Sequence[Standing], count: int, *, limit: float, quality: bool = False
) -> list[Structure]:
    """Choose which students go on.

    They are taken in turns from two lists. The first has those that may keep the limit, the fastest first.
    The second has those that keep it in spite of the doubt, the fastest first; where quality is wanted, or no
    more keep it, it has those with the smallest loss.

    :param standings: the students, the fastest first.
    :param count: how many go on at most.
    :param limit: drop that the budget allows.
    :param quality: whether the best student is wanted, instead of the fastest or smallest.
    :return: the chosen ones, the fastest first.
    """
    hopeful = [entry for entry in standings if entry.drop - entry.doubt <= limit]
    sure = [] if quality else [entry for entry in standings if entry.drop + entry.doubt <= limit]
    good = sorted(standings, key=lambda entry: (entry.drop > limit + _HOPELESS, entry.loss))
    turns = [entry for pair in zip([*hopeful, *good], [*sure, *good], strict=False) for entry in pair]
    chosen = list(dict.fromkeys(entry.structure for entry in turns))[:count]
    return [entry.structure for entry in standings if entry.structure in chosen]
