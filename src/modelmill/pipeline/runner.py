"""Running one step in this process, or reusing the result of an earlier run."""

from __future__ import annotations

import contextlib
import platform
import shutil
import signal
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from modelmill.artifacts import AnyReference, Reference
from modelmill.component import StepContext
from modelmill.errors import ConfigError, InputError, WaitingError
from modelmill.pipeline.checked_step import CheckedStep
from modelmill.pipeline.progress import ProgressPrinter
from modelmill.pipeline.request import StepRequest, StepResult, references
from modelmill.registry.dead_runs import mark_dead_runs
from modelmill.registry.finished_runs import finished_run
from modelmill.registry.mlflow_calls import mlflow_errors
from modelmill.registry.tracking import (
    TAG_HOST,
    TAG_PYTHON,
    experiment_id,
    find_finished,
    open_run,
    tracking_client,
)
from modelmill.settings import Settings
from modelmill.system.devices import leased
from modelmill.system.disk import disk_error, make_writable
from modelmill.system.locks import locked
from modelmill.system.memory import memory_gb
from modelmill.system.resources import Resources
from modelmill.system.usage import UsageMeter
from modelmill.workspace import reporting_to

_LOCKED_PACKAGES = ("torch", "transformers", "onnxruntime", "deltalake", "pysail", "mlflow", "scikit-learn")


def _environment_lock() -> str:
    versions = [f"python=={platform.python_version()}"]
    for name in _LOCKED_PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions.append(f"{name}=={metadata.version(name)}")
    return " ".join(versions)


_ENVIRONMENT = _environment_lock()
"""Once for all steps that are forked from a process: looking each up takes a millisecond."""


class StepInterrupted(BaseException):
    """The step was asked to stop (SIGTERM): its run is marked KILLED, and the next attempt resumes it."""


def _print(line: str) -> None:
    print(line, flush=True)


def run_step(request: StepRequest, settings: Settings, *, meter: UsageMeter | None = None) -> StepResult:
    """Run one step, or reuse the finished run that has the same step key.

    :param request: what to run.
    :param settings: where things are kept.
    :param meter: has begun to measure what the step takes; None: it begins now.
    :return: the outputs.
    :raises InputError: if the request, its configuration or its data is wrong; nothing half-made is left.
    :raises WaitingError: if it has handed work to others: run it again when they are done.
    :raises TransientError: if MLflow does not answer, or another thing may go through later.
    """
    with mlflow_errors(settings.tracking_uri):
        try:
            return _run_step(request, settings, meter or UsageMeter.start())
        except Exception as error:
            full = disk_error(error, settings.home)
            if full is None:
                raise
            raise full from error


def _run_step(request: StepRequest, settings: Settings, meter: UsageMeter) -> StepResult:
    step = CheckedStep.of(request, settings, _print)
    cache = make_writable(settings.cache)
    with _work_folder(settings.home / "steps" / step.key) as workdir:
        # Asked over HTTP first: to import MLflow takes longer than all the rest of a reused step.
        known = finished_run(settings.tracking_uri, request.pipeline, step.key)
        if known and (result := step.reused(known)):
            return result
        client = tracking_client(settings.tracking_uri)
        experiment = experiment_id(client, request.pipeline, artifact_root=settings.artifact_root)
        finished = find_finished(client, experiment, step.key)
        if finished and finished != known and (result := step.reused(finished)):
            return result
        for dead in mark_dead_runs(client, experiment, settings.home / "steps"):
            print(f"run {dead} is marked KILLED: its process died", flush=True)
        tags = _tags(request) | _inputs_tag(step)
        run = open_run(client, experiment, step.key, name=request.step, tags=tags, folder=workdir)
        # This machine may have been paused since it asked, and another one have done the step.
        later = find_finished(client, experiment, step.key)
        if later and later != finished and (result := step.reused(later)):
            run.drop()
            return result
        context = StepContext(
            pipeline=request.pipeline,
            step=request.step,
            step_key=step.key,
            run=run,
            workdir=workdir,
            cache=cache,
            settings=settings,
            progress=ProgressPrinter(request.step),
            log=_print,
            replaces=finished.run_id if finished else "",
        )
        return step.made(_run_component(step, context, meter), run)


@contextlib.contextmanager
def _work_folder(folder: Path) -> Iterator[Path]:
    """Hold a step's own folder; it is emptied at the end: only the next attempt of a dead step needs it."""
    with locked(make_writable(folder) / "lock", on_wait=lambda: _print("another process runs this step")):
        yield folder
        with contextlib.suppress(OSError):  # the step is done, whatever cannot be deleted
            for item in folder.iterdir():
                if item.name != "lock":
                    shutil.rmtree(item) if item.is_dir() else item.unlink()


def _needed_resources(step: CheckedStep) -> Resources:
    """Return what the step needs of its machine: the component's needs, with what the pipeline overrides."""
    request, usual, total = step.request, step.component.resources, memory_gb()
    needed = request.resources.over(usual)
    if needed.memory_gb > total:
        if request.resources.memory_gb is not None:
            raise ConfigError(
                f"step {request.step!r} cannot have more memory than its machine, {total:.1f} GB",
                got=f"memory_gb: {needed.memory_gb:g}",
                remedy="lower memory_gb in the step's resources, or choose a profile with larger machines",
            )
        usual_memory = f"usually takes up to {needed.memory_gb:g} GB"
        step.say(f"{request.step}: {step.component.name} {usual_memory}")
    return needed


def _run_component(step: CheckedStep, context: StepContext, meter: UsageMeter) -> dict[str, AnyReference]:
    """Run the component, and end its MLflow run: finished, failed, killed, scheduled, or discarded."""
    run = context.run
    try:
        needed = _needed_resources(step)
        with _sigterm_raises(), leased(needed, say=context.log), reporting_to(context):
            run.log_params(step.config.model_dump(mode="json"))
            yielded = step.component.run(step.config, step.inputs, context)
            wanted = step.component.outputs
            if not isinstance(yielded, wanted):
                got = type(yielded).__name__
                raise TypeError(
                    f"run of component {step.component.name} must return {wanted.__name__}, not {got}"
                )
            outputs = {name: getattr(yielded, name) for name in step.component.output_ports}
            run.log_metrics(meter.metrics(context.workdir))
            run.finish(outputs)
            return outputs
    except InputError as error:
        run.discard(error) if run.fresh else run.fail(error)
        raise
    except (StepInterrupted, KeyboardInterrupt) as error:
        run.fail(error, status="KILLED")
        raise
    except WaitingError as error:
        run.fail(error, status="SCHEDULED")  # the next attempt reopens it
        raise
    except Exception as error:
        run.fail(error)
        raise


def _tags(request: StepRequest) -> dict[str, str]:
    return {
        "modelmill.pipeline": request.pipeline,
        "modelmill.pipeline_digest": request.pipeline_digest,
        "modelmill.step": request.step,
        "modelmill.component": request.component,
        "modelmill.environment": _ENVIRONMENT,
        TAG_HOST: platform.node(),
        TAG_PYTHON: sys.executable,
        **{f"airflow.{name}": value for name, value in request.origin.items()},
    }


def _inputs_tag(step: CheckedStep) -> dict[str, str]:
    """Return the tag by which retention keeps what the step reads, as long as it runs or waits."""
    from modelmill.registry.retention import TAG_INPUTS, inputs_tag

    given = [one for one in references(step.inputs) if isinstance(one, Reference)]
    return {TAG_INPUTS: inputs_tag(given)} if given else {}


@contextlib.contextmanager
def _sigterm_raises() -> Iterator[None]:
    def stop(_signal: int, _frame: object) -> None:
        # A dying parent's threads may each send one: the next must not interrupt the clean-up.
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
