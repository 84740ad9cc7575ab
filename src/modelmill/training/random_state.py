"""PyTorch's random state: part of a checkpoint, and set back where a batch is computed again."""

from __future__ import annotations

from collections.abc import Mapping

import torch


def random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """Return the state of the CPU's generator, and of the device's if it has its own.

    :param device: where the model is.
    :return: states by kind of device.
    """
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: Mapping[str, torch.Tensor], device: torch.device) -> None:
    """Go on from a state.

    :param state: what :func:`random_state` returned.
    :param device: where the model is.
    """
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"])
