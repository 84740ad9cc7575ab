"""Training the heads of many signals together, on the features that one trunk makes of the rows.

The heads are stacked: one matrix product answers for all of them. Each signal counts its own labelled rows
only, has its own loss, and is kept as it was after its own best epoch, so no head learns from another one.
(All go on until none gets better, so heads that are trained beside others can be trained for longer.) AdamW
changes each weight by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from modelmill.errors import ModelError
from modelmill.tasks.calibration import FloatArray
from modelmill.tasks.examples import LabelledData
from modelmill.tokens.token_ids import Places
from modelmill.training.features import Features
from modelmill.training.head_group import BestHead, HeadGroup, SplitTargets
from modelmill.training.options import HeadTrainingOptions
from modelmill.training.trainable_heads import TRAINABLE_HEADS
from modelmill.workspace import Workspace

_STATISTICS_ROWS = 20_000
_EVALUATION_ROWS = 1024
_GATHERED_BATCHES = 8
_HELD_NUMBERS = 1 << 26
"""Features of all rows that stay in memory while heads train: 256 MB of them."""


@dataclass(frozen=True)
class _Batch:
    features: torch.Tensor
    mask: torch.Tensor
    splits: list[SplitTargets]
    """Targets and weights of each group's heads."""


class _Training:
    def __init__(
        self,
        groups: Sequence[Sequence[LabelledData]],
        features: Features,
        options: HeadTrainingOptions,
        workspace: Workspace,
    ) -> None:
        self.features, self.options, self.workspace = features, options, workspace
        self.groups = [HeadGroup(signals, features.size, options) for signals in groups]
        self.reads = TRAINABLE_HEADS[type(options.head)].reads
        signals = [signal for group in groups for signal in group]
        self.rows = {
            name: np.unique(np.concatenate([getattr(signal, name).places for signal in signals]))
            for name in ("train", "validation")
        }
        self.splits = {
            name: [group.split(name, rows) for group in self.groups] for name, rows in self.rows.items()
        }
        self.mean, self.spread = self._statistics()
        self.held = {name: self._held(rows) for name, rows in self.rows.items()}
        self.parameters = [value for group in self.groups for value in group.parameters.values()]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=options.learning_rate, weight_decay=options.weight_decay, fused=True
        )

    def run(self) -> dict[str, BestHead]:
        rows, quiet = len(self.rows["train"]), 0
        for epoch in range(1, self.options.epochs + 1):
            order = np.random.default_rng([self.options.seed, epoch]).permutation(rows)
            learned = [torch.zeros(len(group.signals)) for group in self.groups]
            for batch in self._batches("train", order, self.options.batch_size):
                for total, part in zip(learned, self._step(batch, rows), strict=True):
                    total += part
            self._check_finite(learned)
            # A head without validation rows of its own goes by the training loss.
            judged = [split.weights.any(0) for split in self.splits["validation"]]
            losses = [
                torch.where(own, found, train)
                for own, found, train in zip(judged, self._evaluate(), learned, strict=True)
            ]
            before = [group.least.clone() for group in self.groups]
            for group, found in zip(self.groups, losses, strict=True):
                group.keep_better(found, epoch)
            improved = any(
                bool((group.least < old - 1e-4 * old.abs().clamp(max=1e9)).any())
                for group, old in zip(self.groups, before, strict=True)
            )
            quiet = 0 if improved else quiet + 1
            loss = float(torch.cat(losses).mean())
            self.workspace.progress(epoch, self.options.epochs, what="epochs", loss=loss)
            if quiet >= self.options.patience:
                break
        return {
            name: head for group in self.groups for name, head in group.heads(self.mean, self.spread).items()
        }

    def _step(self, batch: _Batch, rows: int) -> list[torch.Tensor]:
        losses = [
            group.losses(batch.features, batch.mask, split)
            for group, split in zip(self.groups, batch.splits, strict=True)
        ]
        # Each head's batches add up to its mean loss; so scaled, a batch is worth as much as the whole.
        total = torch.cat(losses).sum() * (rows / len(batch.features))
        # Quicker than backward(), which adds to gradients that have to be cleared. The fused optimiser reads
        # them in their parameter's order in memory.
        gradients = torch.autograd.grad(total, self.parameters)
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient.contiguous()
        self.optimizer.step()
        return [loss.detach() for loss in losses]

    def _check_finite(self, losses: Sequence[torch.Tensor]) -> None:
        if not all(bool(torch.isfinite(loss).all()) for loss in losses):
            raise ModelError(
                "the heads' training loss must stay finite",
                got=f"learning_rate={self.options.learning_rate}",
                remedy="lower learning_rate, or look for labels that are no finite numbers",
            )

    @torch.no_grad()
    def _evaluate(self) -> list[torch.Tensor]:
        found = [torch.zeros(len(group.signals)) for group in self.groups]
        order = np.arange(len(self.rows["validation"]))
        for batch in self._batches("validation", order, _EVALUATION_ROWS):
            for total, group, split in zip(found, self.groups, batch.splits, strict=True):
                total += group.losses(batch.features, batch.mask, split)
        return found

    def _batches(self, name: str, order: Places, size: int) -> Iterator[_Batch]:
        """Read rows of a split in an order: of features, many batches are gathered at once."""
        block = size if self.reads == "states" else size * _GATHERED_BATCHES
        for start in range(0, len(order), block):
            chosen = order[start : start + block]
            features, mask = self._read(name, chosen)
            splits = [split.take(torch.from_numpy(chosen)) for split in self.splits[name]]
            for begin in range(0, len(chosen), size):
                part = slice(begin, begin + size)
                yield _Batch(features[part], mask[part], [split.part(part) for split in splits])

    def _held(self, rows: Places) -> torch.Tensor | None:
        """Return standardised features of rows, ``(rows, features)``, if they are few enough to be held."""
        if self.reads == "states" or len(rows) * self.features.size > _HELD_NUMBERS:
            return None
        return torch.from_numpy((self.features.take(rows) - self.mean) / self.spread)

    def _read(self, name: str, batch: Places) -> tuple[torch.Tensor, torch.Tensor]:
        held = self.held[name]
        if held is not None:
            return held.index_select(0, torch.from_numpy(batch)), torch.ones(len(batch), 1)
        rows = self.rows[name][batch]
        if self.reads == "states":
            values, mask = self.features.take_states(rows)
        else:
            values, mask = self.features.take(rows), np.ones((len(rows), 1), dtype=np.float32)
        return torch.from_numpy((values - self.mean) / self.spread), torch.from_numpy(mask)

    def _statistics(self) -> tuple[FloatArray, FloatArray]:
        rows = self.rows["train"]
        chosen = rows[np.linspace(0, len(rows) - 1, min(len(rows), _STATISTICS_ROWS)).astype(np.int64)]
        values = self.features.take(chosen)
        return values.mean(0), values.std(0) + np.float32(1e-6)


def fit_heads(
    signals: Sequence[LabelledData], features: Features, *, options: HeadTrainingOptions, workspace: Workspace
) -> dict[str, BestHead]:
    """Train the heads of signals.

    :param signals: what each signal has to learn.
    :param features: what the trunk makes of all rows of the dataset.
    :param options: how to train.
    :param workspace: gets the progress.
    :return: the heads by the signal's name.
    :raises ModelError: if a loss is no longer finite.
    """
    groups: dict[tuple[str, int], list[LabelledData]] = {}
    for signal in signals:
        groups.setdefault((signal.target, signal.outputs), []).append(signal)
    return _Training(list(groups.values()), features, options, workspace).run()
