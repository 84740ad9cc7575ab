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
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from modelmill.compression.pruning.heads import attention_heads
from modelmill.compression.pruning.inner_units import inner_units
from modelmill.compression.search.budget import points
from modelmill.compression.search.recipes import Structure
from modelmill.compression.search.search import Search
from modelmill.models.classifier import Classifier, all_logits, load_classifier, save_classifier
from modelmill.models.lexical import UNFITTED_SCALES
from modelmill.training.lexical_head import add_lexical_head
from modelmill.training.losses import fit_scale, in_units, undo_scale
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
    """The teacher's metric minus the student's."""
    loss: float
    """Mean over the rows, see :meth:`modelmill.tasks.base.Task.row_losses`."""
    doubt: float = 0.0
    """Standard error of the drop."""


class Students:
    """The students of a search, each kept in the search's store as far as it has been trained."""

    def __init__(self, search: Search) -> None:
        self.search = search
        self._rounds = (1.0,) if search.options.exhaustive else _ROUNDS

    def train(self, structures: Sequence[Structure]) -> list[Structure]:
        """Train students in rounds, each with fewer of them.

        :param structures: what to try, the fastest first.
        :return: those that were trained to the end, the fastest first: all in an exhaustive search.
        """
        options, left = self.search.options, list(structures)
        last = len(self._rounds) - 1
        for number in range(len(self._rounds)):
            standings = [self._standing(structure, number) for structure in left]
            if number < last:
                count = max(_FEWEST, math.ceil(len(left) / _SURVIVORS))
                left = survivors(
                    standings,
                    count,
                    limit=options.budget.max_metric_drop,
                    quality=options.prefer == "quality",
                )
                for entry in standings:
                    if entry.structure not in left:
                        self.search.store.forget_bundle(self._name(entry.structure, number))
        return left

    def model(self, structure: Structure) -> Classifier:
        """Return one of the students that :meth:`train` returned, in evaluation mode."""
        return self._trained(structure, len(self._rounds) - 1)

    def untrained(self, structure: Structure) -> Classifier:
        """Return a student that has learned nothing yet, so that its cost can be measured."""
        model = self._start(structure)
        if self.search.classifier.lexical is not None:
            model.attach(self.search.classifier.lexical, UNFITTED_SCALES, encoder_tokens=structure.tokens)
        return model.eval()

    def _name(self, structure: Structure, number: int) -> str:
        return f"student: {structure}, round {number + 1} of {len(self._rounds)}"

    def _standing(self, structure: Structure, number: int) -> Standing:
        """Return how a student does after a round; what is known of an earlier search is not done again."""
        store, name = self.search.store, self._name(structure, number)
        known = store.facts(name)
        if known is None:
            self._train_round(structure, number)
            known = store.facts(name) or {}
        else:
            self.search.workspace.log(f"{name}: known from an earlier search")
        return Standing(structure, known["drop"], known["loss"], known["doubt"])

    def _trained(self, structure: Structure, number: int) -> Classifier:
        """Return a student after a round; one whose weights were not kept learns the same again."""
        store, name = self.search.store, self._name(structure, number)
        return load_classifier(store.bundle(name) or self._train_round(structure, number))

    def _train_round(self, structure: Structure, number: int) -> Path:
        search, options, data = self.search, self.search.options, self.search.data
        model = self._trained(structure, number - 1) if number else self._start(structure)
        model.lexical = None
        undo_scale(model, data)
        torch.manual_seed(options.seed)
        workspace = search.workspace.part("students", f"{structure}, round {number + 1}")
        epochs = self._rounds[number] * options.epochs
        train(
            model,
            in_units(search.train.cut(structure.tokens), data),
            validation=None,
            loss=distillation_loss(
                search.soft,
                temperature=options.temperature,
                soft_weight=options.soft_weight,
                task=data.task,
                units=data.units,
            ),
            options=TrainingOptions(
                epochs=epochs,
                batch_size=options.batch_size,
                learning_rate=options.learning_rate,
                seed=options.seed + number,
                checkpoint_seconds=_CHECKPOINT_SECONDS,
            ),
            workspace=workspace,
        )
        fit_scale(model, data)
        if search.classifier.lexical is not None:
            add_lexical_head(
                model,
                search.classifier.lexical,
                search.ranking.encoded,
                encoder_tokens=structure.tokens,
                workspace=workspace,
            )
        standing = self._measured(structure, model.eval())
        facts = {"drop": standing.drop, "loss": standing.loss, "doubt": standing.doubt}
        folder = search.store.put(
            self._name(structure, number), lambda draft: self._save(model, structure, draft), lambda _: facts
        )
        shutil.rmtree(workspace.workdir)  # its checkpoints
        if number:
            search.store.forget_bundle(self._name(structure, number - 1))
        search.workspace.log(
            f"{structure}: {epochs:.2g} passes more, {points(standing.drop, search.ranking.metric)} below "
            f"the teacher on {len(search.ranking)} rows"
        )
        return folder

    def _save(self, model: Classifier, structure: Structure, folder: Path) -> None:
        teacher, lexical = self.search.teacher, model.lexical is not None
        more = {"lexical": lexical, "encoder_tokens": structure.tokens if lexical else None}
        info = teacher.info.model_copy(update={**more, "calibration": None})
        save_classifier(model, folder, tokenizer=teacher.folder / "tokenizer.json", info=info)

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

    def _measured(self, structure: Structure, model: Classifier) -> Standing:
        rows = self.search.ranking
        # A lexical head reads beyond the encoder's last token; without one the text ends there.
        read = rows.encoded if model.lexical is not None else rows.encoded.cut(structure.tokens)
        logits = all_logits(model, read.tokens)
        losses = self.search.data.task.row_losses(
            torch.from_numpy(logits), torch.from_numpy(rows.encoded.targets)
        )
        answers = rows.answers(logits, None)
        return Standing(
            structure,
            drop=rows.below_teacher(answers),
            loss=float(losses.mean()),
            doubt=rows.doubt(answers),
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
