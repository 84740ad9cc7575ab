"""Running one step in this process: reuse, lock, MLflow run, the component, the outcome."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from modelmill.artifacts import AnyReference, DatasetRef, TableRef
from modelmill.component import AnyComponent, Config, Inputs, StepContext
from modelmill.errors import ConfigError, InputError, did_you_mean
from modelmill.pipeline.catalogue import component_named
from modelmill.pipeline.request import StepRequest, StepResult, step_key
from modelmill.pipeline.spec import substitute
from modelmill.registry.finished_runs import finished_run
from modelmill.registry.tracking import (
    experiment_id,
    find_finished,
    open_run,
    run_url,
    tracking_client,
)
from modelmill.settings import Settings
from modelmill.system.devices import leased
from modelmill.system.locks import locked
from modelmill.system.memory import memory_gb
from modelmill.system.resources import Resources

_LOCKED_PACKAGES = ("torch", "transformers", "onnxruntime", "deltalake", "pysail", "mlflow", "scikit-learn")


class StepInterrupted(BaseException):
    """The step was asked to stop (SIGTERM): its run is marked KILLED, and the next attempt resumes it."""


def run_step(request: StepRequest, settings: Settings) -> StepResult:
    """Run one step, or reuse the finished run that has the same step key.

    :param request: what to run.
    :param settings: where things are kept.
    :return: the outputs.
    :raises InputError: if the request, its configuration or its data is wrong; nothing half-made is left.
    """
    component = component_named(request.component)
    config, inputs = checked_config(component, request), checked_inputs(component, request)
    outside = component.outside_state(config, inputs, settings) if component.outside_state else ""
    key = step_key(component, config, inputs, outside_state=outside)
    workdir = _writable(settings.home / "steps" / key)
    cache = _writable(settings.home / "cache")
    with locked(workdir / "lock", on_wait=lambda: print("another process runs this step", flush=True)):
        # Asked over HTTP first, since importing MLflow takes longer than a reused step has to.
        known = finished_run(settings.tracking_uri, request.pipeline, key)
        if known and _still_valid(component, known[2], settings):
            return _reused(component, config, request, settings, key, *known)
        client = tracking_client(settings.tracking_uri)
        # A database without a server keeps no artifacts: they go beside it.
        served = settings.tracking_uri.startswith(("http://", "https://"))
        artifacts = None if served else settings.home / "mlartifacts"
        experiment = experiment_id(client, request.pipeline, artifact_root=artifacts)
        finished = find_finished(client, experiment, key)
        if finished and _still_valid(component, finished[1], settings):
            return _reused(component, config, request, settings, key, experiment, *finished)
        run = open_run(client, experiment, key, name=request.step, tags=_tags(request))
        context = StepContext(
            pipeline=request.pipeline,
            step=request.step,
            step_key=key,
            run=run,
            workdir=workdir,
            cache=cache,
            settings=settings,
            progress=ProgressPrinter(request.step),
            log=lambda line: print(line, flush=True),
        )
        with leased(_needed(component, request), say=context.log):
            outputs = _run_component(component, config, inputs, context)
        _clear(workdir)
        return StepResult(
            outputs=outputs,
            step_key=key,
            run_id=run.run_id,
            run_url=run.url,
            reused=False,
            events=_events(component, config, outputs),
        )


def _needed(component: AnyComponent, request: StepRequest) -> Resources:
    """Return what the step needs; refuse what this machine cannot have."""
    needed, total = request.resources.over(component.resources), memory_gb()
    if needed.memory_gb > total:
        if request.resources.memory_gb is not None:
            raise ConfigError(
                f"step {request.step!r} cannot have more memory than its machine, {total:.1f} GB",
                got=f"memory_gb: {needed.memory_gb:g}",
                remedy="lower memory_gb in the step's resources, or choose a profile with larger machines",
            )
        print(f"{request.step}: {component.name} usually takes up to {needed.memory_gb:g} GB", flush=True)
    return needed


def _still_valid(component: AnyComponent, outputs: dict[str, AnyReference], settings: Settings) -> bool:
    if component.still_valid is None:
        return True
    still = component.still_valid(component.outputs.model_validate(outputs), settings)
    if not still:
        print("the result of an earlier run no longer holds, so it is made again", flush=True)
    return still


def _events(component: AnyComponent, config: Config, outputs: Mapping[str, AnyReference]) -> tuple[str, ...]:
    if component.events is None:
        return ()
    named: tuple[str, ...] = component.events(config, component.outputs.model_validate(dict(outputs)))
    return named


def _reused(
    component: AnyComponent,
    config: Config,
    request: StepRequest,
    settings: Settings,
    key: str,
    experiment: str,
    run_id: str,
    outputs: dict[str, AnyReference],
) -> StepResult:
    print(f"{request.step}: nothing that it reads has changed, so run {run_id} is reused", flush=True)
    url = run_url(settings.tracking_uri, experiment, run_id)
    return StepResult(
        outputs=outputs,
        step_key=key,
        run_id=run_id,
        run_url=url,
        reused=True,
        events=_events(component, config, outputs),
    )


def _clear(workdir: Path) -> None:
    """Drop checkpoints: they are of use to a dead attempt's successor only."""
    for item in workdir.iterdir():
        if item.name != "lock":
            shutil.rmtree(item) if item.is_dir() else item.unlink()


def _run_component(
    component: AnyComponent, config: Config, inputs: Inputs, context: StepContext
) -> dict[str, Any]:
    run = context.run
    try:
        with _sigterm_raises():
            run.log_params(config.model_dump(mode="json"))
            yielded = component.run(config, inputs, context)
            outputs = {name: getattr(yielded, name) for name in component.output_ports}
            run.finish(outputs)
            return outputs
    except InputError as error:
        run.discard() if run.fresh else run.fail(error)
        raise
    except (StepInterrupted, KeyboardInterrupt) as error:
        run.fail(error, status="KILLED")
        raise
    except Exception as error:
        run.fail(error)
        raise


def checked_config(component: AnyComponent, request: StepRequest) -> Config:
    """Return the step's configuration, parameters filled in.

    :param component: the component.
    :param request: the request.
    :return: the configuration.
    :raises ConfigError: naming the first field that is wrong.
    """
    try:
        config: Config = component.config.model_validate(substitute(request.config, request.params))
    except ValidationError as error:
        raise _first_problem(error, f"configuration of step {request.step!r}", component) from error
    return config


def checked_inputs(component: AnyComponent, request: StepRequest) -> Inputs:
    """Return the step's inputs.

    :param component: the component.
    :param request: the request.
    :return: the inputs.
    :raises ConfigError: naming the first port that is wrong.
    """
    try:
        inputs: Inputs = component.inputs.model_validate(request.inputs)
    except ValidationError:
        ports = component.input_ports
        for name in request.inputs:
            if name not in ports:
                raise ConfigError(
                    f"component {component.name} has no such input",
                    got=name,
                    remedy=did_you_mean(name, ports),
                ) from None
        inputs = _coerced_inputs(component, request)
    return inputs


def _coerced_inputs(component: AnyComponent, request: StepRequest) -> Inputs:
    """Validate again: a dataset is a table too, and one edge will do for a port that takes several."""
    values: dict[str, Any] = {}
    for name, port in component.input_ports.items():
        value = request.inputs.get(name)
        if port.type is TableRef and isinstance(value, DatasetRef):
            value = TableRef(uri=value.uri, version=value.version)
        if port.many and value is not None and not isinstance(value, tuple):
            value = (value,)
        if value is not None:
            values[name] = value
    try:
        inputs: Inputs = component.inputs.model_validate(values)
    except ValidationError as error:
        raise _first_problem(error, f"inputs of step {request.step!r}", component) from error
    return inputs


def _first_problem(error: ValidationError, what: str, component: AnyComponent) -> ConfigError:
    detail = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in detail["loc"])
    remedy = f"see the configuration of component {component.name}"
    if detail["type"] == "extra_forbidden":
        remedy = did_you_mean(str(detail["loc"][-1]), component.config.model_fields)
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return ConfigError(f"{what}: {place}: {detail['msg']}{more}", got=detail["input"], remedy=remedy)


def _tags(request: StepRequest) -> dict[str, str]:
    return {
        "modelmill.pipeline": request.pipeline,
        "modelmill.pipeline_digest": request.pipeline_digest,
        "modelmill.step": request.step,
        "modelmill.component": request.component,
        "modelmill.environment": _environment_lock(),
        **{f"airflow.{name}": value for name, value in request.origin.items()},
    }


def _environment_lock() -> str:
    versions = [f"python=={platform.python_version()}"]
    for name in _LOCKED_PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions.append(f"{name}=={metadata.version(name)}")
    return " ".join(versions)


def _writable(directory: Path) -> Path:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe = directory / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigError(
            f"the work directory must be writable ({error.strerror})",
            got=str(directory),
            remedy="set MODELMILL_HOME to a directory that this user may write",
        ) from error
    return directory


@contextlib.contextmanager
def _sigterm_raises() -> Iterator[None]:
    def stop(_signal: int, _frame: object) -> None:
        # A dying parent's threads may each send one: the next must not cut the tidying short.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise StepInterrupted("asked to stop by SIGTERM")

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is stop:
            signal.signal(signal.SIGTERM, before)


class ProgressPrinter:
    """Prints a line now and then: a task log is read in a browser and cannot redraw.

    :param step: the step's id.
    :param every: seconds between two lines.
    """

    def __init__(self, step: str, *, every: float = 5.0) -> None:
        self.step = step
        self.every = every
        self._began = self._said = time.monotonic()
        self._done = 0.0
        self._total = 0.0

    def __call__(self, done: float, total: float, **figures: float) -> None:
        """Print the share that is done, the figures and the time left, if the last line is old enough."""
        now = time.monotonic()
        if total != self._total or done < self._done:  # another piece of work, such as the next phase
            self._began, self._total = now, total
        self._done = done
        if now - self._said < self.every and done < total:
            return
        self._said = now
        share = done / total if total else 1.0
        left = (now - self._began) * (1 - share) / share if share else 0.0
        shown = "".join(f", {name} {value:.4g}" for name, value in figures.items())
        print(
            f"{self.step}: {share:4.0%} ({done:,.0f} of {total:,.0f}){shown}, {_clock(left)} left",
            flush=True,
        )


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes}:{seconds:02d}"
