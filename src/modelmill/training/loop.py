"""The training loop that fine-tuning and distillation share, in one process.

AdamW with a linear warm-up and decay, batches of rows of similar length, gradient clipping, an evaluation
after each epoch, the best epoch kept. Everything that the next optimizer step depends on is in the
checkpoint, and the order of the rows depends on the seed and the epoch alone: a resumed training ends in the
same bits as one that was never interrupted (on a CPU with the same number of threads). A batch that does not
fit into memory is computed in parts, see :mod:`modelmill.training.gradients`; on several devices each
computes a share of every batch, see :mod:`modelmill.training.multi_device`.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass

import torch

from modelmill.errors import ModelError
from modelmill.models.trainable import TrainableModel
from modelmill.system.memory import keep_freed_memory
from modelmill.tokens.token_ids import Places
from modelmill.training.acceleration import ModelRunner, chosen_precision
from modelmill.training.batching import batches
from modelmill.training.checkpoints import Checkpoint, CheckpointStore
from modelmill.training.gradients import GradientAccumulator
from modelmill.training.losses import Loss
from modelmill.training.optimizer import learning_rate_factor
from modelmill.training.options import TrainingOptions
from modelmill.training.parameter_groups import frozen_modules, make_optimizer
from modelmill.training.random_state import random_state, set_random_state
from modelmill.training.ranks import Ranks
from modelmill.training.rows import EncodedRows, Measure, quality
from modelmill.training.state import TrainingHistory, TrainingState
from modelmill.workspace import Workspace

_MAX_GRADIENT_NORM = 1.0
_CURVE_POINTS = 200
_LOG_SECONDS = 5.0


@dataclass(frozen=True)
class TrainingJob:
    """A model, and what it learns."""

    model: TrainableModel
    rows: EncodedRows
    """Train rows."""
    validation: EncodedRows | None
    """None: the last epoch is kept."""
    loss: Loss
    options: TrainingOptions
    measure: Measure = quality
    """What the validation rows are measured by."""


class TrainingLoop:
    """Trains a model in place, resuming from the newest intact checkpoint.

    :param job: the model and the rows.
    :param workspace: checkpoints go below its work directory.
    :param ranks: this process among those that train together; None: it is alone.
    """

    def __init__(self, job: TrainingJob, workspace: Workspace, ranks: Ranks | None = None) -> None:
        keep_freed_memory()
        options = job.options
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = job.model.to(self.device)
        self.rows, self.validation, self.loss = job.rows, job.validation, job.loss
        self.options, self.workspace, self.ranks = options, workspace, ranks or Ranks()
        self.measure = job.measure
        self.per_epoch = math.ceil(len(self.rows.targets) / options.batch_size)
        self.total = max(1, round(options.epochs * self.per_epoch))
        self.optimizer = make_optimizer(self.model, options)
        self.frozen = frozen_modules(self.model, options)
        self.trainable = {name: value for name, value in self.model.named_parameters() if value.requires_grad}
        self.best: dict[str, torch.Tensor] = {}
        self.state = TrainingState(rows_at_once=options.rows_at_once or options.batch_size)
        self.store = CheckpointStore(workspace.workdir / "checkpoints")
        self.saved_at = self.logged_at = time.monotonic()

    def run(self) -> TrainingHistory:
        """Train to the end.

        :return: the history. The model has the weights of the best epoch, on the CPU, for evaluation.
        :raises ModelError: if the loss is no longer finite, or a single row does not fit into memory.
        """
        resumed = self.store.newest()
        self.ranks.check_resumed(resumed.step if resumed else 0)
        if resumed:
            self._restore(resumed)
            self.workspace.log(f"resuming at step {resumed.step} of {self.total}")
        else:
            chosen = chosen_precision(self.options, self.device, log=self.workspace.log)
            self.state.precision = self.ranks.agreed(chosen)
        self.forward = ModelRunner(self.model, self.options, self.state.precision, log=self.workspace.log)
        self.gradients = GradientAccumulator(
            self.rows, self.loss, self.device, self.state.rows_at_once, self._halve
        )
        plan: list[Places] = []
        planned = -1
        self._train_mode()
        while not self.state.ended:
            epoch, position = divmod(self.state.step, self.per_epoch)
            if epoch != planned:
                plan, planned = self._plan(epoch), epoch
            self._step(plan[position])
            self._after_step()
        self._keep_best()
        self.optimizer.close()
        self.model.cpu().eval()
        return self.state.history()

    def _train_mode(self) -> None:
        self.model.train()
        # No dropout in the parts that do not learn.
        for module in self.frozen:
            module.eval()

    def _plan(self, epoch: int) -> list[Places]:
        lengths = self.rows.tokens.lengths
        return batches(lengths, size=self.options.batch_size, seed=self.options.seed, epoch=epoch)

    def _step(self, batch: Places) -> None:
        factor = learning_rate_factor(self.state.step, self.total, warmup=self.options.warmup)
        self.ranks.seed(self.options.seed, self.state.step)
        share = self.ranks.share(batch, self.rows.tokens.lengths[batch])
        value = self.ranks.summed(self.gradients.add(self.forward, share, of=len(batch)), self.optimizer)
        if not math.isfinite(value):
            raise ModelError(
                f"the training loss must stay finite; at step {self.state.step + 1} it is {value}",
                got=f"learning_rate={self.options.learning_rate}",
                remedy="lower learning_rate and head_learning_rate, or raise warmup",
            )
        self.optimizer.step(factor, max_norm=_MAX_GRADIENT_NORM)
        self.state.add_loss(value)

    def _halve(self, rows_at_once: int) -> None:
        self.optimizer.zero_grad()
        self.state.rows_at_once = rows_at_once
        self.workspace.log(
            f"out of memory: batches of {self.options.batch_size} are computed "
            f"{rows_at_once} rows at a time from here on"
        )

    def _after_step(self) -> None:
        state, now = self.state, time.monotonic()
        self.forward.after_step(self.total - state.step)
        last = state.step == self.total
        if last or state.step % max(1, self.total // _CURVE_POINTS) == 0:
            state.add_curve_point()
        if state.curve and self.ranks.first:
            self._report(now, last=last)
        ends_epoch = last or state.step % self.per_epoch == 0
        if ends_epoch:
            self._evaluate()
            state.ended = self.ranks.agreed(last or self._stops_early())
        if self.ranks.first and (ends_epoch or now - self.saved_at >= self.options.checkpoint_seconds):
            self._save()
            self.saved_at = time.monotonic()

    def _report(self, now: float, *, last: bool) -> None:
        state, loss = self.state, self.state.curve[-1][1]
        epoch, epochs = math.ceil(state.step / self.per_epoch), math.ceil(self.options.epochs)
        done, total = state.step, self.total
        self.workspace.progress(done, total, what="training steps", loss=loss, epoch=epoch, epochs=epochs)
        if last or now - self.logged_at >= _LOG_SECONDS:
            self.logged_at = now
            figures = {"train_loss": loss, "epoch": state.step / self.per_epoch}
            figures["learning_rate"] = self.optimizer.rate
            self.workspace.tracker.log_metrics(figures, step=state.step)

    def _evaluate(self) -> None:
        if self.validation is None or not self.ranks.first:
            return
        self.model.eval()
        found = self.measure(self.model, self.validation)
        self._train_mode()
        step = self.state.step
        if self.state.add_epoch(found):
            self.best = {name: value.detach().cpu().clone() for name, value in self.trainable.items()}
        metrics = {f"validation_{name}": value for name, value in found.items()}
        self.workspace.tracker.log_metrics(metrics, step=step)
        shown = ", ".join(f"{name} {value:.4f}" for name, value in found.items())
        self.workspace.log(
            f"epoch {step / self.per_epoch:.3g} of {self.options.epochs:g}: validation {shown}"
        )

    def _stops_early(self) -> bool:
        patience = self.options.patience
        if patience is None or self.state.epochs_since_better() < patience:
            return False
        self.workspace.log(f"ends early: no better epoch among the last {patience}")
        return True

    def _keep_best(self) -> None:
        with torch.no_grad():
            for name, value in self.best.items():
                self.trainable[name].copy_(value)

    def _save(self) -> None:
        self.store.save(
            self.state.step,
            state=asdict(self.state),
            tensors={
                "model": self.trainable,
                "optimizer": self.optimizer.tensors(),
                "random": random_state(self.device),
                "best": self.best,
            },
        )

    def _restore(self, checkpoint: Checkpoint) -> None:
        with torch.no_grad():
            for name, value in checkpoint.tensors["model"].items():
                self.trainable[name].copy_(value)
        self.optimizer.load(checkpoint.tensors["optimizer"])
        self.state = TrainingState.restored(checkpoint.state)
        self.best = dict(checkpoint.tensors.get("best", {}))
        set_random_state(checkpoint.tensors["random"], self.device)
