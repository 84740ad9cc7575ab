"""Checks that a gate's configuration can add, chosen by the type of their configuration.

Another distribution adds checks with an entry point in the group ``modelmill.gate_checks`` that names a
module; every :class:`GateCheck` at that module's top level can then be listed under ``checks``. Its ``run``
gets the
:class:`~modelmill.registry.contestants.Case` (dataset, truth, challenger, champion, parent) and returns
    findings.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, TypeVar

from pydantic import Field, model_validator

from modelmill.component import Config
from modelmill.errors import ConfigError

if TYPE_CHECKING:
    from modelmill.registry.comparisons import Finding, NotJudged
    from modelmill.registry.contestants import Case
    from modelmill.settings import Settings

ENTRY_POINT_GROUP = "modelmill.gate_checks"

_OWN_MODULES = ("modelmill.registry.checks", "modelmill.rules.lifecycle.decisions_check")


class CheckConfig(Config):
    """Base of a check's configuration. A subclass has a field ``check``, a ``Literal``: its name in YAML."""

    check: str


ConfigT = TypeVar("ConfigT", bound=CheckConfig)


@dataclass(frozen=True)
class GateCheck(Generic[ConfigT]):
    """A kind of check."""

    config: type[ConfigT]
    run: Callable[[ConfigT, Case], Iterable[Finding | NotJudged]]
    """Imports what it needs when it is called: declarations are read by Airflow's parser."""
    outside_state: Callable[[ConfigT, str, Settings], str] | None = None
    """Fingerprint of what it reads beside the case, from its configuration and the registered model's name: a
    finished verdict is used again only while that stays the same. None: it reads nothing else."""

    @property
    def name(self) -> str:
        """What it is called in YAML."""
        return str(self.config.model_fields["check"].default)


class SliceConfig(CheckConfig):
    """No slice of the test rows may get worse than a limit."""

    check: Literal["slice"] = "slice"
    column: str = Field(description="Column of the dataset: each of its values is a slice.")
    max_drop: float = Field(0.05, ge=0, lt=1, description="Largest accepted drop of a slice's accuracy.")
    min_rows: int = Field(20, ge=1, description="Smaller slices are named in the report, and not judged.")


class LatencyConfig(CheckConfig):
    """The exported file answers single texts fast enough, measured here side by side with the reference."""

    check: Literal["latency"] = "latency"
    max_ms: float | None = Field(None, gt=0, description="Largest accepted p95 of one text, in ms.")
    max_ratio: float | None = Field(
        None, gt=0, description="Largest accepted ratio to the champion's p95 (to the parent's without one)."
    )
    rows: int = Field(200, ge=20, description="Test rows that are timed, one at a time.")

    @model_validator(mode="after")
    def _some_limit(self) -> Self:
        return _with_limit(self, "max_ms", "max_ratio")


class SizeConfig(CheckConfig):
    """The exported file is small enough."""

    check: Literal["size"] = "size"
    max_mb: float | None = Field(None, gt=0, description="Largest accepted size, in millions of bytes.")
    max_ratio: float | None = Field(
        None, gt=0, description="Largest accepted ratio to the champion's size (to the parent's without one)."
    )

    @model_validator(mode="after")
    def _some_limit(self) -> Self:
        return _with_limit(self, "max_mb", "max_ratio")


class CalibrationConfig(CheckConfig):
    """The probabilities mean what they say: expected calibration error on the test rows."""

    check: Literal["calibration"] = "calibration"
    max_error: float | None = Field(None, gt=0, lt=1, description="Largest accepted calibration error.")
    max_increase: float = Field(
        0.02, ge=0, lt=1, description="Largest accepted increase over the champion's (parent's without one)."
    )
    bins: int = Field(15, ge=2, le=100, description="Bins of equally many rows.")


LimitedT = TypeVar("LimitedT", bound=CheckConfig)


def _with_limit(config: LimitedT, *names: str) -> LimitedT:
    if all(getattr(config, name) is None for name in names):
        raise ValueError(f"at least one of {' and '.join(names)} is needed")
    return config


def _run_slice(config: SliceConfig, case: Case) -> Iterable[Finding | NotJudged]:
    from modelmill.registry.measured_checks import slice_findings

    return slice_findings(config, case)


def _run_latency(config: LatencyConfig, case: Case) -> Iterable[Finding]:
    from modelmill.registry.measured_checks import latency_findings

    return latency_findings(config, case)


def _run_size(config: SizeConfig, case: Case) -> Iterable[Finding]:
    from modelmill.registry.measured_checks import size_findings

    return size_findings(config, case)


def _run_calibration(config: CalibrationConfig, case: Case) -> Iterable[Finding]:
    from modelmill.registry.measured_checks import calibration

    return calibration(config, case)


slice_check = GateCheck(config=SliceConfig, run=_run_slice)
latency_check = GateCheck(config=LatencyConfig, run=_run_latency)
size_check = GateCheck(config=SizeConfig, run=_run_size)
calibration_check = GateCheck(config=CalibrationConfig, run=_run_calibration)


@functools.cache
def gate_checks() -> Mapping[str, GateCheck[Any]]:
    """Return every known check by its name.

    :return: a read-only mapping.
    :raises ConfigError: if two modules declare the same name.
    """
    modules = [import_module(name) for name in _OWN_MODULES]
    modules += [entry.load() for entry in entry_points(group=ENTRY_POINT_GROUP)]
    found: dict[str, GateCheck[Any]] = {}
    for module in modules:
        for check in (value for value in vars(module).values() if isinstance(value, GateCheck)):
            if found.setdefault(check.name, check) is not check:
                raise ConfigError(
                    "a check's name belongs to one module",
                    got=check.name,
                    remedy=f"rename the one in {module.__name__}",
                )
    return MappingProxyType(found)


def findings_of(config: CheckConfig, case: Case) -> Iterable[Finding | NotJudged]:
    """Run the check that a configuration is of.

    :param config: its type selects the check.
    :param case: what is checked.
    :return: what was found.
    """
    found: Iterable[Finding | NotJudged] = _check_of(config).run(config, case)
    return found


def outside_state(config: CheckConfig, name: str, settings: Settings) -> str:
    """Return a fingerprint of what a check reads beside the case.

    :param config: its type selects the check.
    :param name: the registered model that a challenger is proposed for.
    :param settings: where MLflow is.
    :return: empty if it reads nothing else.
    """
    read = _check_of(config).outside_state
    return "" if read is None else read(config, name, settings)


def _check_of(config: CheckConfig) -> GateCheck[Any]:
    return {check.config: check for check in gate_checks().values()}[type(config)]
