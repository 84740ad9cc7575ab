"""Documents per second of several models, measured side by side.

A machine's speed drifts while it is measured: other processes, heat. So the models take turns, in rounds
whose order is shuffled, and the median over the rounds counts. What is timed is what a caller waits for: from
the texts to the logits, tokenisation included. Scorers that profit from it sort rows by length themselves.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modelmill.models.scorer import Scorer

if TYPE_CHECKING:
    from modelmill.workspace import Progress

MIN_ROUNDS = 3
_MAX_ROUNDS = 15
_WARM_UP_ROWS = 32


@dataclass(frozen=True)
class Throughput:
    """How fast a model answers."""

    documents_per_second: float
    """Median over the rounds, by the clock on the wall."""
    documents_per_cpu_second: float
    """Median over the rounds, by the time of all cores together; 0 if it was too short to be measured."""
    rows: int
    """Texts per round."""
    seconds: tuple[float, ...]
    """Wall time of each round."""


def measure_throughput(
    scorers: Mapping[str, Scorer],
    texts: Sequence[str],
    *,
    rounds: int = MIN_ROUNDS,
    seconds: float = 15.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Throughput]:
    """Measure models side by side.

    :param scorers: the models by name.
    :param texts: at least one text; each model answers all of them in each round.
    :param rounds: rounds at least; at least 3.
    :param seconds: further rounds are made until this time is over, but at most 15.
    :param seed: of the orders in which the models take their turns.
    :param progress: called after each turn, with the number of turns at most.
    :return: one record for each model.
    :raises ValueError: if there are no texts or fewer than 3 rounds.
    """
    if not texts or rounds < MIN_ROUNDS:
        raise ValueError(f"throughput needs texts and {MIN_ROUNDS} rounds; got {len(texts)} and {rounds}")
    for scorer in scorers.values():  # first calls allocate memory and start threads
        scorer.logits(texts[:_WARM_UP_ROWS])
    rng = np.random.default_rng(seed)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in scorers}
    names, began, done = list(scorers), time.monotonic(), 0
    most = max(rounds, _MAX_ROUNDS) if seconds else rounds
    while done < rounds or (time.monotonic() - began < seconds and done < _MAX_ROUNDS):
        for turn, index in enumerate(rng.permutation(len(names))):
            name = names[index]
            times[name].append(_turn(scorers[name], texts))
            if progress:
                progress(done * len(names) + turn + 1, most * len(names))
        done += 1
    if progress and done < most:
        progress(done * len(names), done * len(names))
    return {name: _throughput(times[name], len(texts)) for name in scorers}


def _turn(scorer: Scorer, texts: Sequence[str]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    scorer.logits(texts)
    return time.perf_counter() - wall, time.process_time() - cpu


def _throughput(times: Sequence[tuple[float, float]], rows: int) -> Throughput:
    cpu = statistics.median(cpu for _, cpu in times)
    return Throughput(
        documents_per_second=rows / statistics.median(wall for wall, _ in times),
        documents_per_cpu_second=rows / cpu if cpu else 0.0,
        rows=rows,
        seconds=tuple(wall for wall, _ in times),
    )


@dataclass(frozen=True)
class Latency:
    """How long a caller waits for the answer to one text, tokenisation included, in milliseconds."""

    p50_ms: float
    p95_ms: float
    texts: int


def measure_latency(scorer: Scorer, texts: Sequence[str]) -> Latency:
    """Measure the time for one text at a time.

    :param scorer: the model.
    :param texts: at least one text; each is timed in every round, and its median counts.
    :return: percentiles over the texts.
    :raises ValueError: if there are no texts.
    """
    if not texts:
        raise ValueError("latency needs at least one text")
    for text in texts[:_WARM_UP_ROWS]:
        scorer.logits([text])
    times = np.zeros((MIN_ROUNDS, len(texts)))
    for turn in range(MIN_ROUNDS):
        for place, text in enumerate(texts):
            began = time.perf_counter()
            scorer.logits([text])
            times[turn, place] = time.perf_counter() - began
    middle = 1000 * np.median(times, axis=0)
    low, high = np.quantile(middle, [0.5, 0.95])
    return Latency(p50_ms=float(low), p95_ms=float(high), texts=len(texts))
