"""The checks that measure: slices, latency, size, calibration."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pyarrow.compute as pc

from modelmill.errors import ConfigError
from modelmill.models.bundle import bundle_bytes
from modelmill.models.scorer import Scorer
from modelmill.models.scorers import load_scorer
from modelmill.registry.checks import CalibrationConfig, LatencyConfig, SizeConfig, SliceConfig
from modelmill.registry.comparisons import (
    Finding,
    NotJudged,
    Unit,
    against_limit,
    calibration_findings,
    part_findings,
    parts_by,
)
from modelmill.registry.contestants import Case, Contender
from modelmill.tables.reading import read_arrow

_MOST_SLICES = 200
_MOST_SMALL = 50
"""Slices that are too small to judge and are named all the same."""
_ROUNDS = 5


def slice_findings(config: SliceConfig, case: Case) -> Iterator[Finding | NotJudged]:
    """Compare the accuracy in each slice with the reference's.

    :param config: the column, and the limit.
    :param case: what is checked.
    :yields: a finding for each value of the column in any split, or that it has too few test rows for one.
    :raises ConfigError: if the column has too many values.
    :raises TableError: if the dataset has no such column.
    """
    if case.reference is None:
        return
    dataset = case.dataset
    columns = list(dict.fromkeys([config.column, case.label, dataset.split]))
    table = read_arrow(dataset, columns=columns)
    everywhere = parts_by(pc.unique(table.column(config.column)).to_pylist())
    table = table.filter(pc.equal(table.column(dataset.split), "test"))
    table = table.filter(table.column(case.label).is_valid())
    parts = {**dict.fromkeys(everywhere, ()), **parts_by(table.column(config.column).to_pylist())}
    small = [name for name, places in parts.items() if len(places) < config.min_rows]
    if len(parts) - len(small) > _MOST_SLICES:
        raise ConfigError(
            f"a column for slices has at most {_MOST_SLICES} values with {config.min_rows} test rows",
            got=f"{config.column}: {len(parts) - len(small)}",
            remedy="choose a coarser column, or raise min_rows",
        )
    unnamed = [parts.pop(name) for name in small[_MOST_SMALL:]]
    if unnamed:
        rows = sum(map(len, unnamed))
        name = f"{len(unnamed)} more values of {config.column}, {case.reference.name}"
        reason = f"too small to judge: {rows} test rows together, and each needs {config.min_rows}"
        yield NotJudged(check="slice", name=name, rows=rows, reason=reason)
    for finding in part_findings(
        parts,
        case.reference.name,
        case.truth,
        case.reference.answers,
        case.challenger.answers,
        check="slice",
        shown="accuracy",
        limit=config.max_drop,
        how=case.how,
        min_rows=config.min_rows,
    ):
        name = f"{config.column} {finding.name.removeprefix('slice ')}"
        if isinstance(finding, NotJudged):
            yield finding.model_copy(update={"name": name})
        else:
            yield replace(finding, name=name)


def size_findings(config: SizeConfig, case: Case) -> Iterator[Finding]:
    """Weigh the exported file.

    :param config: the limits.
    :param case: what is checked.
    :yields: a finding for each limit.
    """
    megabytes = [bundle_bytes(one.folder) / 1e6 for one in (case.challenger, case.reference) if one]
    yield from _limits("size", "size", "MB", megabytes, case.reference, config.max_mb, config.max_ratio)


def latency_findings(config: LatencyConfig, case: Case) -> Iterator[Finding]:
    """Time single texts, the challenger and the reference in turns.

    :param config: the limits.
    :param case: what is checked.
    :yields: a finding for each limit.
    """
    compared = case.reference if config.max_ratio is not None else None
    contenders = [one for one in (case.challenger, compared) if one]
    count = min(config.rows, len(case.texts))
    chosen = np.random.default_rng(0).choice(len(case.texts), size=count, replace=False)
    texts = [case.texts[place] for place in chosen]
    case.context.log(f"timing {count} texts one at a time")
    scorers = [load_scorer(one.folder, threads=1) for one in contenders]
    for scorer in scorers:
        scorer.logits(texts[:10])  # first calls allocate memory
    rounds = [[_p95(scorer, texts) for scorer in scorers] for _ in range(_ROUNDS)]
    # A machine's speed drifts while it is measured: the median over rounds in which they take turns.
    times = [float(value) for value in np.median(rounds, axis=0)]
    yield from _limits("latency", "p95 of one text", "ms", times, compared, config.max_ms, config.max_ratio)


def _p95(scorer: Scorer, texts: list[str]) -> float:
    """Return the 95th percentile of the time for one text, in ms."""
    times = []
    for text in texts:
        began = time.perf_counter()
        scorer.logits([text])
        times.append(time.perf_counter() - began)
    return float(np.quantile(times, 0.95)) * 1000


def _limits(
    check: str,
    metric: str,
    unit: Unit,
    values: list[float],
    reference: Contender | None,
    most: float | None,
    ratio: float | None,
) -> Iterator[Finding]:
    own = against_limit(check, f"accepted {check}", metric, values[0], limit=most or 0.0, unit=unit)
    if most is not None:
        yield own
    if ratio is not None and reference is not None:
        other = values[1]
        limit = (ratio - 1) * other
        yield replace(own, name=reference.name, other=other, worse=values[0] - other, limit=limit)


def calibration(config: CalibrationConfig, case: Case) -> list[Finding]:
    """Compare expected calibration errors with a limit, and with the reference's.

    :param config: the limits.
    :param case: what is checked.
    :return: a finding for each limit.
    """
    contenders = [one for one in (case.challenger, case.reference) if one]
    truth = np.asarray(case.truth, dtype=object)
    return calibration_findings(
        [_confidence(one) for one in contenders],
        [(np.asarray(one.answers, dtype=object) == truth).astype(np.float64) for one in contenders],
        reference=case.reference.name if case.reference else None,
        max_error=config.max_error,
        max_increase=config.max_increase,
        bins=config.bins,
        how=case.how,
    )


def _confidence(one: Contender) -> np.ndarray:
    """Return the probability of the answer that is given, ``(rows,)``."""
    with np.errstate(invalid="ignore"):  # scores that are no numbers: as wrong as one can be
        found = np.asarray(one.info.answers(one.logits)[1], dtype=np.float64)
    return np.where(one.scored, found, 1.0)
