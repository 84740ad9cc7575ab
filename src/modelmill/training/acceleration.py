"""Faster steps if the device allows it: bf16 arithmetic, and a model that PyTorch compiles.

Nothing is assumed. bf16 is measured before the training begins, a compiled model while it runs; neither is
used if it is not faster. On a CPU neither is chosen unless the options ask for it: there the weights of a
seed must be the same on each machine. Weights, gradients and the optimizer's state stay fp32, and so does
every evaluation.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn

from modelmill.errors import ModelError
from modelmill.training.options import TrainingOptions

Precision = Literal["fp32", "bf16"]
Forward = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""From ids and mask ``(batch, tokens)`` to logits ``(batch, outputs)``."""

_BF16_GAIN = 1.2
"""How much faster bf16 has to be."""
_ROUNDS = 7
_SHAPE = (1024, 768, 3072)
"""Rows, inputs and outputs of the product that is timed: a feed-forward layer of a base-sized encoder."""
_COMPILED_GAIN = 1.1
_WARM_UP, _TIMED = 10, 30
"""Steps of a trial that are not timed, and steps that are."""
_WORTH_SECONDS = 300.0
"""A shorter training ends before compiling has saved the time it takes."""


def chosen_precision(
    options: TrainingOptions, device: torch.device, *, log: Callable[[str], None]
) -> Precision:
    """Choose the number format of a training's products.

    :param options: how to train.
    :param device: where.
    :param log: gets a line with what was measured.
    :return: the format.
    """
    if options.precision == "fp32" or (options.precision == "auto" and device.type == "cpu"):
        return "fp32"
    gain = bf16_gain(device)
    chosen: Precision = "bf16" if options.precision == "bf16" or gain >= _BF16_GAIN else "fp32"
    log(f"bf16 products are {gain:.2g} times as fast as fp32 here: the training computes in {chosen}")
    return chosen


def bf16_gain(device: torch.device) -> float:
    """Return how many times faster a matrix product is in bf16 than in fp32.

    :param device: where it is computed.
    :return: ratio of the fastest of some rounds, taken in turns.
    """
    rows, inputs, outputs = _SHAPE
    wide = torch.ones(rows, inputs, device=device), torch.ones(inputs, outputs, device=device)
    narrow = wide[0].bfloat16(), wide[1].bfloat16()
    seconds = [(_seconds(*wide), _seconds(*narrow)) for _ in range(_ROUNDS)][1:]
    return min(fp32 for fp32, _ in seconds) / min(bf16 for _, bf16 in seconds)


def _seconds(left: torch.Tensor, right: torch.Tensor) -> float:
    began = time.perf_counter()
    # Read back, so that a device which works on its own has ended.
    float((left @ right)[0, 0])
    return time.perf_counter() - began


@dataclass
class CompileTrial:
    """Whether a compiled model is worth it, measured in the first steps of a training."""

    worth_seconds: float = _WORTH_SECONDS
    compiled: bool = False
    decided: bool = False
    _seen: int = 0
    _rates: dict[bool, list[float]] = field(default_factory=lambda: {False: [], True: []})

    def step(self, seconds: float, tokens: int, steps_left: int) -> str | None:
        """Count a step.

        :param seconds: that it took.
        :param tokens: of its batch, padding included.
        :param steps_left: after it.
        :return: a line for the log if this step has led to a decision, else None.
        """
        if self.decided:
            return None
        self._seen += 1
        if self._seen <= _WARM_UP:
            return None
        rates = self._rates[self.compiled]
        rates.append(seconds / tokens)
        if len(rates) < _TIMED:
            return None
        eager = statistics.median(self._rates[False])
        if not self.compiled:
            self._seen = 0
            self.compiled = eager * tokens * steps_left > self.worth_seconds
            self.decided = not self.compiled
            return "trying a compiled model" if self.compiled else None
        self.decided = True
        gain = eager / statistics.median(rates)
        self.compiled = gain >= _COMPILED_GAIN
        return f"a compiled model is {gain:.2f} times as fast: {'kept' if self.compiled else 'dropped'}"

    def fail(self) -> None:
        """Go on without compiling."""
        self.compiled, self.decided = False, True


class ModelRunner:
    """Runs a model in training as fast as the device allows.

    :param model: the model, on its device.
    :param options: how to train.
    :param precision: number format of the products.
    :param log: gets a line for each decision.
    """

    def __init__(
        self, model: nn.Module, options: TrainingOptions, precision: Precision, *, log: Callable[[str], None]
    ) -> None:
        self._model, self._log = model, log
        self._device = next(model.parameters()).device
        self._bf16 = precision == "bf16"
        self._must = options.compiled == "always"
        tried = options.compiled == "auto" and self._device.type == "cuda"
        self.trial = CompileTrial(compiled=self._must, decided=not tried)
        self._compiled: Forward | None = None
        self._tokens = 0
        self._began = time.perf_counter()

    def __call__(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return the logits of a batch, in fp32 and with gradients.

        :param ids: ``(batch, tokens)``.
        :param mask: ``(batch, tokens)``.
        :return: ``(batch, outputs)``.
        :raises ModelError: if the model is to be compiled and cannot be.
        """
        self._tokens += ids.numel()
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
            logits = self._run(ids, mask)
        return logits.float()

    def after_step(self, steps_left: int) -> None:
        """Count a step of the training."""
        now = time.perf_counter()
        if said := self.trial.step(now - self._began, max(1, self._tokens), steps_left):
            self._log(said)
        self._began, self._tokens = now, 0

    def _run(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        if not self.trial.compiled:
            eager: torch.Tensor = self._model(ids, mask)
            return eager
        from torch._dynamo.exc import TorchDynamoException
        from torch._inductor.exc import InductorError

        self._compiled = self._compiled or torch.compile(self._model, dynamic=True)
        try:
            return self._compiled(ids, mask)
        except (TorchDynamoException, InductorError) as error:
            reason = str(error).strip().splitlines()[0]
            if self._must:
                raise ModelError(
                    f"a model that is to be compiled must be one that torch.compile takes ({reason})",
                    got="compiled=always",
                    remedy="set compiled to auto or never; on a CPU a C++ compiler must be installed",
                ) from error
            self.trial.fail()
            self._log(f"the model is not compiled: {reason}")
            return self._run(ids, mask)
