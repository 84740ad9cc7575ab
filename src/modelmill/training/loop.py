"""The training loop that fine-tuning and distillation share.

AdamW with a linear warm-up and decay, batches grouped by length, gradient clipping, evaluation after each
epoch, the best epoch kept. Everything that the next step depends on stands in the checkpoint, and the order
of the rows follows from the seed and the epoch alone: a resumed training ends in the same bits as one that
was never interrupted (on a CPU with the same number of threads). A batch that does not fit into memory is
computed in halves whose gradients add up to those of the whole. On several devices each computes a share of
every batch, see :mod:`modelmill.training.multi_device`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from modelmill.datasets.options import LabelKind
from modelmill.errors import ModelError
from modelmill.models.classifier import Classifier, all_logits, collate
from modelmill.models.encoder import layer_list
from modelmill.system.memory import keep_freed_memory
from modelmill.tasks.base import Measures
from modelmill.tasks.kinds import task_of
from modelmill.tokens.token_ids import Places, Tokens
from modelmill.training.acceleration import Forward, ModelRunner, Precision, chosen_precision
from modelmill.training.checkpoints import Checkpoint, CheckpointStore, Tensors
from modelmill.training.multi_device import process_count, train_in_processes
from modelmill.training.optimizer import Optimizer
from modelmill.training.options import TrainingConfig
from modelmill.training.ranks import Ranks

if TYPE_CHECKING:
    from modelmill.component import StepContext

Loss = Callable[[torch.Tensor, torch.Tensor, Places], torch.Tensor]
"""From logits ``(batch, outputs)``, targets ``(batch, …)`` and the rows' places ``(batch,)`` to a scalar: a
mean over the rows, so that a batch can be computed in parts."""

_MAX_GRADIENT_NORM = 1.0
_POOL_BATCHES = 20
"""Rows are sorted by length within pools of so many batches: little padding, and batches still vary."""
_PASS_TOKENS = 64
"""What another pass over the layers costs on a CPU beside the tokens that it reads: about so many of them."""
_CURVE_POINTS = 200
_LOG_SECONDS = 5.0


@dataclass(frozen=True)
class Encoded:
    """Rows that are ready for the model."""

    tokens: Tokens
    """Ids of each row."""
    targets: npt.NDArray[Any]
    """As in :class:`~modelmill.tasks.examples.LabelledData`."""
    target: LabelKind = "class"

    def cut(self, tokens: int) -> Encoded:
        """Return the same rows, each with its first tokens only.

        :param tokens: how many.
        :return: the rows.
        """
        return Encoded(self.tokens.cut(tokens), self.targets, self.target)


Epoch = tuple[int, Measures]
"""Step after an epoch, and what :meth:`modelmill.tasks.base.Task.quality` finds on the validation
split."""


@dataclass
class Progress:
    """What has happened so far: part of every checkpoint."""

    step: int = 0
    curve: list[tuple[int, float]] = field(default_factory=list)
    """Mean training loss by step."""
    epochs: list[Epoch] = field(default_factory=list)
    best: int | None = None
    """Position in ``epochs`` of the best one; None before the first one ends, or without validation rows."""
    loss_sum: float = 0.0
    loss_count: int = 0
    rows_at_once: int = 0
    """Rows of a batch that are computed together: halved where memory ran out."""
    ended: bool = False
    """Whether the training has ended, early or not."""
    precision: Precision = "fp32"
    """Number format of the products: the first attempt chose it."""


@dataclass(frozen=True)
class Trained:
    """What a training yields besides the weights."""

    steps: int
    """Optimizer steps that were made."""
    curve: list[tuple[int, float]]
    epochs: list[Epoch]
    quality: Measures | None
    """Of the epoch that was kept, on the validation split; None without validation rows."""


def train(
    model: Classifier,
    data: Encoded,
    *,
    validation: Encoded | None,
    loss: Loss,
    config: TrainingConfig,
    context: StepContext,
    ranks: Ranks | None = None,
) -> Trained:
    """Train a model in place, resuming from the newest good checkpoint of an attempt that died.

    :param model: the model; afterwards it has the weights of the best epoch, on the CPU, for evaluation.
    :param data: train rows.
    :param validation: validation rows; None: the last epoch is kept.
    :param loss: what is minimised.
    :param config: how to train.
    :param context: the step.
    :param ranks: this process among those that train together; None: it may start some, one for a device.
    :return: the course of the training.
    :raises ModelError: if the loss is no longer finite, or a single row does not fit into memory.
    :raises TransientError: if one of several processes dies.
    """
    keep_freed_memory()
    job: Any = {"model": model, "data": data, "validation": validation, "loss": loss, "config": config}
    if ranks is None and (count := process_count(model, data, config, log=context.log)) > 1:
        train_in_processes(count, job, context)
    return _Training(**job, context=context, ranks=ranks or Ranks()).run()


def batch_logits(model: Forward, tokens: Tokens, batch: Places, device: torch.device) -> torch.Tensor:
    """Return the logits of a batch, with gradients.

    :param model: the model, or what runs it.
    :param tokens: ids of all rows.
    :param batch: places of the rows, ``(batch,)``.
    :param device: where the model is.
    :return: ``(batch, outputs)``.
    """
    ids, mask = collate(tokens, batch)
    return model(ids.to(device), mask.to(device))


def batches(lengths: npt.NDArray[np.int64], *, size: int, seed: int, epoch: int) -> list[Places]:
    """Return one epoch's batches: every row once, rows of like length together, in random order.

    :param lengths: tokens of each row, ``(rows,)``.
    :param size: rows per batch.
    :param seed: of the training.
    :param epoch: from 0; each epoch has another order.
    :return: places of the rows of each batch, ``(batch,)``.
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(lengths))
    pools = np.arange(len(order)) // (size * _POOL_BATCHES)
    order = order[np.lexsort((lengths[order], pools))]
    found = [order[start : start + size] for start in range(0, len(order), size)]
    return [found[index] for index in random.permutation(len(found))]


def parts(batch: Places, lengths: npt.NDArray[np.int64], *, most: int) -> list[Places]:
    """Cut a batch where padding would cost more than another pass does.

    :param batch: places of the rows, ``(batch,)``.
    :param lengths: tokens of each, ``(batch,)``.
    :param most: rows of a part at most.
    :return: places of the rows of each part, those of like length together.
    """
    order = np.argsort(lengths, kind="stable")
    size, tall = len(order), lengths[order]
    least, cuts = np.zeros(size + 1), np.zeros(size + 1, dtype=np.int64)
    for end in range(1, size + 1):
        first = max(0, end - most)
        costs = least[first:end] + np.arange(end - first, 0, -1) * tall[end - 1] + _PASS_TOKENS
        cuts[end] = first + int(costs.argmin())
        least[end] = costs.min()
    found, end = [], size
    while end:
        found.append(batch[order[cuts[end] : end]])
        end = int(cuts[end])
    return found[::-1]


def rate(step: int, total: int, *, warmup: float) -> float:
    """Return the factor on the learning rate: up linearly, then down linearly.

    :param step: steps done.
    :param total: steps in all.
    :param warmup: share of the steps over which the rate rises.
    :return: more than 0, at most 1.
    """
    share = (step + 1) / (total + 1)
    return share / warmup if share < warmup else (1 - share) / (1 - warmup)


def quality(model: Classifier, data: Encoded) -> Measures:
    """Measure a model.

    :param model: the model, in evaluation mode.
    :param data: rows.
    :return: see :meth:`modelmill.tasks.base.Task.quality`.
    """
    return task_of(data.target).quality(all_logits(model, data.tokens), data.targets)


def make_optimizer(model: Classifier, config: TrainingConfig) -> Optimizer:
    """Freeze what the configuration leaves as it is, and group the rest.

    :param model: the model.
    :param config: how to train.
    :return: weights with decay, biases and norms without, the head at its own rate, embeddings row by row.
    :raises ModelError: if more layers are to be frozen than there are.
    """
    _, layers = layer_list(model.encoder)
    if config.frozen_layers > len(layers):
        raise ModelError(
            f"frozen_layers must not exceed the model's layers, {len(layers)}",
            got=config.frozen_layers,
            remedy=f"lower it to at most {len(layers)}",
        )
    for module in frozen_modules(model, config):
        module.requires_grad_(False)
    table = _sparse_table(model, config)
    trained = [
        value
        for value in model.encoder.parameters()
        if value.requires_grad and not (table and value is table.weight)
    ]
    groups = [
        {"params": [value for value in trained if value.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [value for value in trained if value.ndim <= 1], "weight_decay": 0.0},
        {"params": list(model.head.parameters()), "weight_decay": 0.0, "lr": config.head_learning_rate},
    ]
    return Optimizer(
        [{"lr": config.learning_rate, **group} for group in groups if group["params"]],
        table=table,
        rate=config.learning_rate,
        weight_decay=config.weight_decay,
    )


def _sparse_table(model: Classifier, config: TrainingConfig) -> nn.Embedding | None:
    """Return the embeddings, if they are trained and it pays to do so row by row."""
    table = model.encoder.get_input_embeddings()
    if not isinstance(table, nn.Embedding) or not table.weight.requires_grad:
        return None
    # A GPU fills and adds a whole table in no time, and compiled models have no sparse gradients.
    return table if table.weight.device.type == "cpu" and config.compiled != "always" else None


def frozen_modules(model: Classifier, config: TrainingConfig) -> list[nn.Module]:
    """Return the parts that the configuration leaves as they are.

    :param model: the model.
    :param config: how to train.
    :return: the embeddings and the lowest layers, or none.
    """
    found: list[nn.Module] = list(layer_list(model.encoder)[1][: config.frozen_layers])
    if not config.train_embeddings:
        found.append(getattr(model.encoder, "embeddings", None) or model.encoder.get_input_embeddings())
    return found


class _Training:
    def __init__(
        self,
        model: Classifier,
        data: Encoded,
        validation: Encoded | None,
        loss: Loss,
        config: TrainingConfig,
        context: StepContext,
        ranks: Ranks,
    ) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = model.to(self.device)
        self.data, self.validation, self.loss = data, validation, loss
        self.config, self.context, self.ranks = config, context, ranks
        self.per_epoch = math.ceil(len(data.targets) / config.batch_size)
        self.total = max(1, round(config.epochs * self.per_epoch))
        self.optimizer = make_optimizer(model, config)
        self.frozen = frozen_modules(model, config)
        self.trainable = {name: value for name, value in model.named_parameters() if value.requires_grad}
        self.best: dict[str, torch.Tensor] = {}
        self.progress = Progress(rows_at_once=config.rows_at_once or config.batch_size)
        self.store = CheckpointStore(context.workdir / "checkpoints")
        self.saved_at = self.logged_at = time.monotonic()

    def run(self) -> Trained:
        resumed = self.store.newest()
        self.ranks.check_resumed(resumed.step if resumed else 0)
        if resumed:
            self._restore(resumed)
            self.context.log(f"resuming at step {resumed.step} of {self.total}")
        else:
            chosen = chosen_precision(self.config, self.device, log=self.context.log)
            self.progress.precision = self.ranks.agreed(chosen)
        self.forward = ModelRunner(self.model, self.config, self.progress.precision, log=self.context.log)
        plan: list[Places] = []
        planned = -1
        self._train_mode()
        while not self.progress.ended:
            epoch, position = divmod(self.progress.step, self.per_epoch)
            if epoch != planned:
                plan, planned = self._plan(epoch), epoch
            self._step(plan[position])
            self._after_step()
        self._keep_best()
        self.optimizer.close()
        kept = self.progress.epochs[self.progress.best] if self.progress.best is not None else None
        self.model.cpu().eval()
        return Trained(
            steps=self.progress.step,
            curve=self.progress.curve,
            epochs=self.progress.epochs,
            quality=kept[1] if kept else None,
        )

    def _train_mode(self) -> None:
        self.model.train()
        # What does not learn makes no noise either.
        for module in self.frozen:
            module.eval()

    def _plan(self, epoch: int) -> list[Places]:
        lengths = self.data.tokens.lengths
        return batches(lengths, size=self.config.batch_size, seed=self.config.seed, epoch=epoch)

    def _step(self, batch: Places) -> None:
        factor = rate(self.progress.step, self.total, warmup=self.config.warmup)
        self.ranks.seed(self.config.seed, self.progress.step)
        value = self.ranks.summed(self._gradients(batch), self.optimizer)
        if not math.isfinite(value):
            raise ModelError(
                f"the training loss must stay finite; at step {self.progress.step + 1} it is {value}",
                got=f"learning_rate={self.config.learning_rate}",
                remedy="lower learning_rate and head_learning_rate, or raise warmup",
            )
        self.optimizer.step(factor, max_norm=_MAX_GRADIENT_NORM)
        self.progress.step += 1
        self.progress.loss_sum += value
        self.progress.loss_count += 1

    def _gradients(self, batch: Places) -> float:
        """Add up the gradients of this rank's rows, in as many parts as memory asks for; return the loss."""
        random = self._random_state()
        rows = self.ranks.share(batch, self.data.tokens.lengths[batch])
        while True:
            try:
                return sum(self._part(part, len(part) / len(batch)) for part in self._parts(rows))
            except (RuntimeError, MemoryError) as error:
                if not _out_of_memory(error):
                    raise
                if self.progress.rows_at_once == 1:
                    raise ModelError(
                        "the model and one row must fit into memory",
                        got=f"{int(self.data.tokens.lengths[batch].max())} tokens",
                        remedy="lower max_tokens, train fewer layers, or take a smaller base model",
                    ) from error
            # Outside the handler: the error's traceback holds the tensors that did not fit.
            self.optimizer.zero_grad()
            self._set_random_state(random)
            self.progress.rows_at_once = math.ceil(self.progress.rows_at_once / 2)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            self.context.log(
                f"out of memory: batches of {self.config.batch_size} are computed "
                f"{self.progress.rows_at_once} rows at a time from here on"
            )

    def _parts(self, batch: Places) -> list[Places]:
        most = self.progress.rows_at_once
        if self.device.type == "cuda":
            return [batch[start : start + most] for start in range(0, len(batch), most)]
        return parts(batch, self.data.tokens.lengths[batch], most=most)

    def _part(self, part: Places, share: float) -> float:
        logits = batch_logits(self.forward, self.data.tokens, part, self.device)  # (part, outputs)
        targets = torch.from_numpy(self.data.targets[part]).to(self.device)
        loss = self.loss(logits, targets, part) * share
        value = float(loss.detach())
        if math.isfinite(value):
            loss.backward()  # type: ignore[no-untyped-call] # PyTorch has no types here
        return value

    def _after_step(self) -> None:
        progress, now = self.progress, time.monotonic()
        self.forward.after_step(self.total - progress.step)
        last = progress.step == self.total
        if last or progress.step % max(1, self.total // _CURVE_POINTS) == 0:
            progress.curve.append((progress.step, progress.loss_sum / progress.loss_count))
            progress.loss_sum, progress.loss_count = 0.0, 0
        if progress.curve and self.ranks.first:
            self._report(now, last=last)
        ends_epoch = last or progress.step % self.per_epoch == 0
        if ends_epoch:
            self._evaluate()
            progress.ended = self.ranks.agreed(last or self._stops_early())
        if self.ranks.first and (ends_epoch or now - self.saved_at >= self.config.checkpoint_seconds):
            self._save()
            self.saved_at = time.monotonic()

    def _report(self, now: float, *, last: bool) -> None:
        progress = self.progress
        self.context.progress(progress.step, self.total, loss=progress.curve[-1][1])
        if last or now - self.logged_at >= _LOG_SECONDS:
            self.logged_at = now
            figures = {"train_loss": progress.curve[-1][1], "epoch": progress.step / self.per_epoch}
            figures["learning_rate"] = self.optimizer.rate
            self.context.run.log_metrics(figures, step=progress.step)

    def _evaluate(self) -> None:
        if self.validation is None or not self.ranks.first:
            return
        self.model.eval()
        found = quality(self.model, self.validation)
        self._train_mode()
        progress = self.progress
        progress.epochs.append((progress.step, dict(found)))
        name, value = next(iter(found.items()))
        # Of equals the later one: it has seen more.
        if progress.best is None or value >= progress.epochs[progress.best][1][name]:
            progress.best = len(progress.epochs) - 1
            self.best = {name: value.detach().cpu().clone() for name, value in self.trainable.items()}
        self.context.run.log_metrics(
            {f"validation_{name}": value for name, value in found.items()}, step=progress.step
        )
        shown = ", ".join(f"{name} {value:.4f}" for name, value in found.items())
        self.context.log(
            f"epoch {progress.step / self.per_epoch:.3g} of {self.config.epochs:g}: validation {shown}"
        )

    def _stops_early(self) -> bool:
        best, epochs, patience = self.progress.best, self.progress.epochs, self.config.patience
        if best is None or patience is None:
            return False
        values = [next(iter(found.values())) for _, found in epochs]
        # Of equals the last is kept, but only the first was better than those before it.
        if len(values) - 1 - values.index(values[best]) < patience:
            return False
        self.context.log(f"ends early: no better epoch among the last {patience}")
        return True

    def _keep_best(self) -> None:
        with torch.no_grad():
            for name, value in self.best.items():
                self.trainable[name].copy_(value)

    def _save(self) -> None:
        self.store.save(
            self.progress.step,
            state=asdict(self.progress),
            tensors={
                "model": self.trainable,
                "optimizer": self.optimizer.tensors(),
                "random": self._random_state(),
                "best": self.best,
            },
        )

    def _restore(self, checkpoint: Checkpoint) -> None:
        with torch.no_grad():
            for name, value in checkpoint.tensors["model"].items():
                self.trainable[name].copy_(value)
        self.optimizer.load(checkpoint.tensors["optimizer"])
        state: dict[str, Any] = dict(checkpoint.state)
        state["curve"] = [(int(step), float(loss)) for step, loss in state["curve"]]
        state["epochs"] = [(int(step), dict(found)) for step, found in state["epochs"]]
        self.progress = Progress(**state)
        self.best = dict(checkpoint.tensors.get("best", {}))
        self._set_random_state(checkpoint.tensors["random"])

    def _random_state(self) -> dict[str, torch.Tensor]:
        random = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state()
        return random

    def _set_random_state(self, random: Tensors) -> None:
        torch.set_rng_state(random["cpu"])
        if "cuda" in random and self.device.type == "cuda":
            torch.cuda.set_rng_state(random["cuda"])


def _out_of_memory(error: BaseException) -> bool:
    # On the CPU PyTorch raises a plain RuntimeError.
    texts = ("can't allocate memory", "not enough memory")
    kinds = (torch.OutOfMemoryError, MemoryError)
    return isinstance(error, kinds) or any(text in str(error) for text in texts)
