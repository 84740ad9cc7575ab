"""What a piece of work needs of the machine it runs on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Resources:
    """What a step needs of the machine it runs on."""

    gpus: int = 0
    """Devices it uses where there are some; without one the same step runs on the CPU."""
    gpu_memory_gb: float = 0
    """Memory that must be free on each of them, in 10^9 bytes."""
    share_gpu: bool = False
    """Whether other steps that say so too may use the same devices at the same time."""
    cpus: float = 1
    memory_gb: float = 2
    """Main memory, in 10^9 bytes."""
