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
from modelmill.tasks.metrics import Interval

if TYPE_CHECKING:
    from modelmill.workspace import Progress

MIN_ROUNDS = 3
_MAX_ROUNDS = 15
_WARM_UP_ROWS = 32
_TAIL = 0.025


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
    cpu_seconds: tuple[float, ...] = ()
    """Time of all cores together in each round."""


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
                progress(done * len(names) + turn + 1, most * len(names), what="measurements of speed")
        done += 1
    if progress and done < most:
        progress(done * len(names), done * len(names), what="measurements of speed")
    return {name: _throughput(times[name], len(texts)) for name in scorers}


def speed_ratio(base: Throughput, other: Throughput, *, on_cpu: bool) -> Interval:
    """Return how many times faster one model is than another that was measured beside it.

    Each round gives a ratio, and the median counts. On a CPU it is one of CPU time, which other processes
    hardly change; the work of a GPU shows on the clock on the wall alone.

    :param base: the model to compare with.
    :param other: the model.
    :param on_cpu: whether both run on the CPU.
    :return: the median with its 95 % confidence interval.
    """
    if on_cpu and all((*base.cpu_seconds, *other.cpu_seconds)):
        times = zip(base.cpu_seconds, other.cpu_seconds, strict=True)
    else:
        times = zip(base.seconds, other.seconds, strict=True)
    return median_interval([first / second for first, second in times])


def median_interval(values: Sequence[float]) -> Interval:
    """Return a median with the values around it that hold the true one with 95 % confidence.

    By order statistics: W. J. Conover, *Practical Nonparametric Statistics*, 1999, section 3.2. Of fewer than
    6 values it is their whole range.
    """
    from scipy.stats import binom

    ordered = sorted(values)
    place = max(int(binom.ppf(_TAIL, len(ordered), 0.5)) - 1, 0)
    return Interval(statistics.median(ordered), ordered[place], ordered[-1 - place])


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
        cpu_seconds=tuple(cpu for _, cpu in times),
    )


@dataclass(frozen=True)
class Latency:
    """How long a caller waits for the answer to one text, tokenisation included, in milliseconds."""

    p50_ms: float
    p95_ms: float
    texts: int
    p95_interval: tuple[float, float]
    """Of the rounds' own 95th percentiles the values around the median, see :func:`median_interval`."""


def measure_latency(
    scorer: Scorer, texts: Sequence[str], *, rounds: int = MIN_ROUNDS, on_cpu: bool = False
) -> Latency:
    """Measure the time for one text at a time.

    :param scorer: the model.
    :param texts: at least one text; each is timed in every round, and its median counts.
    :param rounds: how often.
    :param on_cpu: whether the model runs on the CPU. Then a call takes no longer than its CPU time: what the
        clock on the wall shows beyond is time that other processes had.
    :return: percentiles over the texts.
    :raises ValueError: if there are no texts.
    """
    if not texts:
        raise ValueError("latency needs at least one text")
    for text in texts[:_WARM_UP_ROWS]:
        scorer.logits([text])
    times = np.zeros((rounds, len(texts)))
    for turn in range(rounds):
        for place, text in enumerate(texts):
            wall, cpu = _turn(scorer, [text])
            times[turn, place] = 1000 * (min(wall, cpu or wall) if on_cpu else wall)
    middle, slow = np.quantile(np.median(times, axis=0), [0.5, 0.95])
    each = median_interval(np.quantile(times, 0.95, axis=1).tolist())
    ends = min(each.low, float(slow)), max(each.high, float(slow))
    return Latency(p50_ms=float(middle), p95_ms=float(slow), texts=len(texts), p95_interval=ends)
