"""Running one step in this process, or reusing the result of an earlier run."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from modelmill.artifacts import AnyReference, DatasetRef, TableRef
from modelmill.component import AnyComponent, Config, Inputs, StepContext
from modelmill.errors import ConfigError, InputError
from modelmill.pipeline.catalogue import component_named
from modelmill.pipeline.checked_request import checked_config, checked_inputs
from modelmill.pipeline.progress import ProgressPrinter
from modelmill.pipeline.request import StepRequest, StepResult, references, step_key
from modelmill.registry.finished_runs import FinishedRun, finished_run
from modelmill.registry.mlflow_calls import asking
from modelmill.registry.tracking import (
    experiment_id,
    find_finished,
    mark_dead_runs,
    open_run,
    run_url,
    tracking_client,
)
from modelmill.settings import Settings
from modelmill.system.devices import leased
from modelmill.system.disk import disk_error
from modelmill.system.locks import locked
from modelmill.system.memory import memory_gb
from modelmill.system.resources import Resources
from modelmill.tables.reading import check_table
from modelmill.tables.versions import table_states

_LOCKED_PACKAGES = ("torch", "transformers", "onnxruntime", "deltalake", "pysail", "mlflow", "scikit-learn")


class StepInterrupted(BaseException):
    """The step was asked to stop (SIGTERM): its run is marked KILLED, and the next attempt resumes it."""


def _print(line: str) -> None:
    print(line, flush=True)


def reusable(
    request: StepRequest, settings: Settings, *, say: Callable[[str], None] = _print
) -> StepResult | None:
    """Return the result of the finished run that has the same step key, without running anything.

    It only reads, so a caller that has many steps can ask in its own process: 0.01 to 0.1 CPU seconds instead
    of the 3 to 4 that a process takes to start, import MLflow and ask the same.

    :param request: what would run.
    :param settings: where things are kept.
    :param say: gets each line to show.
    :return: None if there is no such run, or it may not be reused.
    :raises InputError: if the request, its configuration or its data is wrong.
    """
    step = _Step.of(request, settings, say)
    if settings.tracking_uri.startswith(("http://", "https://")):
        found = finished_run(settings.tracking_uri, request.pipeline, step.key)
    else:
        client = tracking_client(settings.tracking_uri)
        experiment = client.get_experiment_by_name(request.pipeline)
        found = find_finished(client, experiment.experiment_id, step.key) if experiment else None
    return step.reused(found) if found and step.is_still_valid(found) else None


def run_step(request: StepRequest, settings: Settings) -> StepResult:
    """Run one step, or reuse the finished run that has the same step key.

    :param request: what to run.
    :param settings: where things are kept.
    :return: the outputs.
    :raises InputError: if the request, its configuration or its data is wrong; nothing half-made is left.
    :raises TransientError: if MLflow does not answer, or another thing may go through later.
    """
    with asking(settings.tracking_uri):
        try:
            return _run_step(request, settings)
        except Exception as error:
            full = disk_error(error, settings.home)
            if full is None:
                raise
            raise full from error


def _run_step(request: StepRequest, settings: Settings) -> StepResult:
    step = _Step.of(request, settings)
    workdir = _writable(settings.home / "steps" / step.key)
    cache = _writable(settings.home / "cache")
    with locked(workdir / "lock", on_wait=lambda: _print("another process runs this step")):
        # Asked over HTTP first: to import MLflow takes longer than all the rest of a reused step.
        known = finished_run(settings.tracking_uri, request.pipeline, step.key)
        if known and step.is_still_valid(known):
            return step.reused(known)
        client = tracking_client(settings.tracking_uri)
        # A database without a server keeps no artifacts: they go beside it.
        served = settings.tracking_uri.startswith(("http://", "https://"))
        artifacts = None if served else settings.home / "mlartifacts"
        experiment = experiment_id(client, request.pipeline, artifact_root=artifacts)
        finished = find_finished(client, experiment, step.key)
        if finished and finished != known and step.is_still_valid(finished):
            return step.reused(finished)
        for dead in mark_dead_runs(client, experiment, settings.home / "steps"):
            print(f"run {dead} is marked KILLED: its process died", flush=True)
        run = open_run(client, experiment, step.key, name=request.step, tags=_tags(request))
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
        outputs = step.run(context)
        _clear(workdir)
        return step.result(outputs, run_id=run.run_id, run_url=run.url, reused=False)


@dataclass(frozen=True)
class _Step:
    """A checked request, with the component that it names."""

    request: StepRequest
    settings: Settings
    component: AnyComponent
    config: Config
    inputs: Inputs
    key: str
    say: Callable[[str], None]

    @classmethod
    def of(cls, request: StepRequest, settings: Settings, say: Callable[[str], None] = _print) -> _Step:
        """Check a request, and compute its step key."""
        component = component_named(request.component)
        config, inputs = checked_config(component, request), checked_inputs(component, request)
        key = step_key(component, config, inputs, settings)
        return cls(request, settings, component, config, inputs, key, say)

    def is_still_valid(self, found: FinishedRun) -> bool:
        """Return whether an earlier result may be reused; say why if it may not."""
        reason = self._invalid(found)
        if reason:
            self.say(f"the result of run {found.run_id} is made again: {reason}")
        return reason is None

    def _invalid(self, found: FinishedRun) -> str | None:
        outputs = self._outputs(found.outputs)
        for table in references(outputs):
            if not isinstance(table, TableRef | DatasetRef):
                continue
            was, now = found.tables.get(str(table)), table_states([table])[str(table)]
            if was != now:
                return f"{table} is {'gone' if now == 'missing' else 'not the table that it made'}"
            if now != "missing":
                try:
                    check_table(table, memory=self.settings.home / "cache" / "digests")
                except InputError as error:
                    return str(error)
        if self.component.still_valid is None or self.component.still_valid(outputs, self.settings):
            return None
        return "it no longer holds"

    def reused(self, found: FinishedRun) -> StepResult:
        """Return the result of an earlier run."""
        name, run_id = self.request.step, found.run_id
        self.say(f"{name}: nothing that it reads has changed, so run {run_id} is reused")
        url = run_url(self.settings.tracking_uri, found.experiment, run_id)
        return self.result(found.outputs, run_id=run_id, run_url=url, reused=True)

    def result(
        self, outputs: dict[str, AnyReference], *, run_id: str, run_url: str, reused: bool
    ) -> StepResult:
        """Return the step's result."""
        events: tuple[str, ...] = ()
        if self.component.events is not None:
            events = self.component.events(self.config, self._outputs(outputs))
        return StepResult(
            outputs=outputs, step_key=self.key, run_id=run_id, run_url=run_url, reused=reused, events=events
        )

    def needed_resources(self) -> Resources:
        """Return what the step needs of its machine.

        :return: the component's needs, with what the pipeline overrides.
        :raises ConfigError: if the pipeline asks for more memory than this machine has.
        """
        request, usual, total = self.request, self.component.resources, memory_gb()
        needed = request.resources.over(usual)
        if needed.memory_gb > total:
            if request.resources.memory_gb is not None:
                raise ConfigError(
                    f"step {request.step!r} cannot have more memory than its machine, {total:.1f} GB",
                    got=f"memory_gb: {needed.memory_gb:g}",
                    remedy="lower memory_gb in the step's resources, or choose a profile with larger "
                    "machines",
                )
            usual_memory = f"usually takes up to {needed.memory_gb:g} GB"
            self.say(f"{request.step}: {self.component.name} {usual_memory}")
        return needed

    def run(self, context: StepContext) -> dict[str, AnyReference]:
        """Run the component, and end its MLflow run: finished, failed, killed, or discarded."""
        run = context.run
        try:
            with _sigterm_raises(), leased(self.needed_resources(), say=context.log):
                run.log_params(self.config.model_dump(mode="json"))
                yielded = self.component.run(self.config, self.inputs, context)
                outputs = {name: getattr(yielded, name) for name in self.component.output_ports}
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

    def _outputs(self, outputs: Mapping[str, AnyReference]) -> Any:
        return self.component.outputs.model_validate(dict(outputs))


def _clear(workdir: Path) -> None:
    """Delete checkpoints: only the next attempt of a dead step needs them."""
    for item in workdir.iterdir():
        if item.name != "lock":
            shutil.rmtree(item) if item.is_dir() else item.unlink()


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
