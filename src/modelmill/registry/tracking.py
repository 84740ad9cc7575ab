"""One step, one MLflow run: found again by its step key, reopened after a dead attempt, ended exactly once.

MLflow never ends the run of a process that was killed: it stays ``RUNNING`` for ever. So a run is looked up
by the step key in its tags. A finished one is reused, an open one is reopened, and what the dead attempt had
logged stays.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import re
import time
import uuid
from collections.abc import Callable, Collection, Container, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from modelmill.artifacts import AnyReference, DatasetRef, TableRef
from modelmill.errors import TransientError
from modelmill.redaction import public_url, redacted, redacted_value
from modelmill.registry.figure_letters import draw_letters, missing_letters
from modelmill.registry.finished_runs import (
    TAG_OUTPUTS,
    TAG_STEP_KEY,
    TAG_TABLES,
    FinishedRun,
    RunPlace,
    read_tags,
    run_filter,
)
from modelmill.registry.mlflow_calls import bound_calls, briefly, made_once
from modelmill.settings import MODEL_TRAINING, Settings, is_served
from modelmill.system.database import make_database
from modelmill.system.imports import without_collections
from modelmill.tables.versions import table_states

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run

TAG_ERROR = "modelmill.error"
TAG_HOST = "modelmill.host"
"""Name of the machine that a step has run on."""
TAG_OPENED_BY = "modelmill.opened_by"
"""Names the attempt that has opened the run last."""
ATTEMPTS = "attempts"
"""File of a step's work folder with the names of its attempts on this machine that have not ended well."""
TAG_OPENED_AT = "modelmill.opened_at"
"""When that was, in milliseconds since 1970: MLflow keeps the begin of the first attempt."""
TAG_PYTHON = "modelmill.python"
"""Path of the interpreter that has run it."""


@functools.cache
def tracking_client(tracking_uri: str) -> MlflowClient:
    """Return MLflow's client for a tracking server, and make that server MLflow's default in this process."""
    bound_calls()
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # It would print a run's URL before it sets the run's status, be it into a pipe that nobody reads.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    with without_collections():
        import mlflow

    for name in ("mlflow", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if tracking_uri.startswith("sqlite:///") and "?" not in tracking_uri:
        make_tracking_database(Path(tracking_uri.removeprefix("sqlite:///")))
    mlflow.set_tracking_uri(tracking_uri)
    mlflow.set_registry_uri(tracking_uri)
    return mlflow.MlflowClient(tracking_uri)


def make_tracking_database(database: Path, *, artifact_root: str = "./mlruns") -> None:
    """Make MLflow's SQLite database, unless it is there; MLflow, killed while it does, leaves a broken one.

    :param database: its file.
    :param artifact_root: where artifacts of the experiment ``Default`` go; as MLflow has it by default.
    """

    def make(place: Path) -> None:
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        store = SqlAlchemyStore(f"sqlite:///{place}", artifact_root)  # type: ignore[no-untyped-call]
        store.engine.dispose()

    make_database(database, make, table="experiments")


def experiment_id(client: MlflowClient, name: str, *, artifact_root: Path | None = None) -> str:
    """Return the id of an experiment, which is made if there is none.

    :param client: MLflow's client.
    :param name: the pipeline's name.
    :param artifact_root: where artifacts go if the tracking store is a local database; None: MLflow decides.
    :return: the id.
    :raises TransientError: if it can be neither found nor made.
    """
    from mlflow.exceptions import MlflowException

    for _ in range(3):
        found = client.get_experiment_by_name(name)
        if found and found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        if found:
            return str(found.experiment_id)
        # Two first steps may make it at the same time: the loser finds it in the next round.
        with contextlib.suppress(MlflowException):
            location = (artifact_root / name).as_uri() if artifact_root else None
            return str(client.create_experiment(name, artifact_location=location))
    raise TransientError("the MLflow experiment must exist", got=name, remedy="see the MLflow server's log")


class TrackedRun:
    """The MLflow run of one step key.

    :param client: MLflow's client.
    :param run: the run.
    :param fresh: whether this attempt made it (so that it can be deleted if the input is refused).
    :param attempt: what the run's tag says as long as no newer attempt has opened it; None: nobody looks.
    """

    def __init__(self, client: MlflowClient, run: Run, *, fresh: bool, attempt: str | None = None) -> None:
        self.client = client
        self._attempt = attempt
        self.run_id: str = run.info.run_id
        self.experiment_id: str = run.info.experiment_id
        self.fresh = fresh
        self.models: set[str] = set()
        """Ids of the models that this attempt has logged, or taken over from an earlier one."""
        self.figures: dict[str, float] = {}
        """The last value of each metric that this attempt has logged."""
        self.rows_read: dict[str, int] = {}
        """Rows of each table that this attempt has worked on, by ``URI@VERSION``, as far as it said so."""

    @property
    def url(self) -> str:
        """The run's page in the MLflow UI; empty if the store has no UI."""
        return run_url(str(self.client.tracking_uri), self.experiment_id, self.run_id)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log parameters, nested ones under dotted names. A resumed run keeps the ones it has.

        :param params: values by name. What MLflow does not take in a name, such as the ``+`` of a label that
            is part of it, becomes ``_``.
        """
        from mlflow.entities import Param

        known = self.client.get_run(self.run_id).data.params
        flat = dict[str, str]()
        for name, value in _flatten(params):
            flat[free_name(name, flat)] = str(redacted_value(name, value))[:6000]
        flat = {name: value for name, value in flat.items() if name not in known}
        self.client.log_batch(self.run_id, params=[Param(name, value) for name, value in flat.items()])

    def log_metrics(self, metrics: Mapping[str, float], *, step: int = 0) -> None:
        """Log metrics in one request.

        :param metrics: values by name.
        :param step: optimizer step or epoch they belong to.
        """
        from mlflow.entities import Metric

        self.figures.update({name: float(value) for name, value in metrics.items()})
        now = int(time.time() * 1000)
        self.client.log_batch(
            self.run_id,
            metrics=[Metric(name, float(value), now, step) for name, value in metrics.items()],
        )

    def log_model_metrics(self, metrics: Mapping[str, Mapping[str, float]]) -> None:
        """Log figures of models, in a request for each thousand.

        :param metrics: values by name, by logged model.
        """
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self.client.log_batch(
            self.run_id,
            metrics=[
                # A run keeps one of two metrics that are alike, time included.
                Metric(name, float(value), now + place, 0, model_id=model_id)
                for place, (model_id, figures) in enumerate(metrics.items())
                for name, value in figures.items()
            ],
        )

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags in one request.

        :param tags: values by name.
        """
        from mlflow.entities import RunTag

        self.client.log_batch(self.run_id, tags=[RunTag(name, value) for name, value in tags.items()])

    def log_dataset(self, table: TableRef | DatasetRef, *, context: str, rows: int | None = None) -> None:
        """Log a Delta table at a version as an input of the run.

        MLflow's own ``DeltaDatasetSource`` drops version 0, so the entity is written directly.

        :param table: the table.
        :param context: what it is used for: ``training``, ``evaluation``, ``scoring``, ….
        :param rows: number of rows, if known.
        """
        from mlflow.entities import Dataset, DatasetInput, InputTag

        if rows is not None:
            self.rows_read[str(table)] = rows
        source = json.dumps({"path": table.uri, "delta_table_version": table.version})
        dataset = Dataset(
            name=Path(urlsplit(table.uri).path).name[:500] or "table",
            digest=f"v{table.version}",
            source_type="delta_table",
            source=source,
            profile=None if rows is None else json.dumps({"num_rows": rows}),
        )
        tag = InputTag("mlflow.data.context", context)
        self.client.log_inputs(self.run_id, datasets=[DatasetInput(dataset, [tag])])

    def log_json(self, content: Any, path: str) -> str:
        """Log a JSON file.

        :param content: anything that JSON can say.
        :param path: path below the run's artifacts.
        :return: its ``runs:/`` URI.
        """
        self.client.log_dict(self.run_id, content, path)
        return f"runs:/{self.run_id}/{path}"

    def log_figure(self, figure: Figure, path: str) -> None:
        """Log a plot. Letters that its font lacks are drawn in another one, or it is said that none has them.

        :param figure: a Matplotlib figure; it is not closed.
        :param path: path below the run's artifacts, ending in ``.png``.
        """
        if missing := draw_letters(figure, lambda: self.client.log_figure(self.run_id, figure, path)):
            print(missing_letters(path, missing), flush=True)

    @property
    def is_mine(self) -> bool:
        """Whether no newer attempt has opened the run since.

        The step's lock keeps attempts of one machine apart. One on another machine, which was paused or cut
        off while Airflow started the next one, wakes up with everything that it had.
        """
        if self._attempt is None:
            return True
        return bool(self.client.get_run(self.run_id).data.tags.get(TAG_OPENED_BY) == self._attempt)

    def check_mine(self) -> None:
        """Check that no newer attempt has opened the run since.

        :raises TransientError: if one has: what it makes counts.
        """
        if not self.is_mine:
            raise TransientError(
                "a newer attempt at this step must not be overtaken by an older one",
                got=f"run {self.run_id}, which a newer attempt has opened",
                remedy="nothing is to be done: what the newer attempt makes counts",
            )

    def finish(self, outputs: Mapping[str, AnyReference]) -> None:
        """End the run well. Only now can another attempt reuse it.

        :param outputs: references by output port.
        :raises TransientError: if a newer attempt has opened the run.
        """
        self.check_mine()
        if self.models:
            self._drop_other_models()
        content = {name: value.model_dump(mode="json") for name, value in outputs.items()}
        states = table_states(outputs.values())
        self.set_tags({TAG_OUTPUTS: json.dumps(content), TAG_TABLES: json.dumps(states)})
        self.client.set_terminated(self.run_id, status="FINISHED")

    def fail(self, error: BaseException, *, status: str = "FAILED") -> None:
        """End the run badly; an attempt with the same step key reopens it.

        If MLflow does not answer, the run stays RUNNING until a step of the pipeline starts again
        (:func:`~modelmill.registry.dead_runs.mark_dead_runs`).
        """
        with briefly(_print):
            if self.is_mine:
                self.set_tags({TAG_ERROR: redacted(f"{type(error).__name__}: {error}")[:4000]})
                self.client.set_terminated(self.run_id, status=status)

    def discard(self, error: BaseException) -> None:
        """Delete the run of a refused input, which this attempt has made. MLflow keeps the error."""
        with briefly(_print):
            if self.is_mine:
                self.set_tags({TAG_ERROR: redacted(f"{type(error).__name__}: {error}")[:4000]})
                self.client.set_terminated(self.run_id, status="FAILED")
                self.client.delete_run(self.run_id)

    def drop(self) -> None:
        """Delete the run, in which nothing was made: another attempt's counts."""
        with briefly(_print):
            if self.is_mine:
                self.client.set_terminated(self.run_id, status="KILLED")
                self.client.delete_run(self.run_id)

    def logged_models(self) -> list[LoggedModel]:
        """Return the models that the run has logged, those of dead attempts too, the oldest first."""
        found: list[LoggedModel] = []
        token: str | None = None
        while True:
            page = self.client.search_logged_models(
                [self.experiment_id], filter_string=f"source_run_id = '{self.run_id}'", page_token=token
            )
            found += page
            token = page.token
            if not token:
                return sorted(found, key=lambda model: (model.creation_timestamp, model.model_id))

    def _drop_other_models(self) -> None:
        """Delete the models of dead attempts, and what a request that came twice has made."""
        for model in self.logged_models():
            if model.model_id not in self.models:
                self.client.delete_logged_model(model.model_id)


class StepRun(Protocol):
    """What models and verdicts need of the step that makes them; a step's context is one."""

    @property
    def pipeline(self) -> str:
        """Name of the pipeline."""

    @property
    def step_key(self) -> str:
        """What decides the step's result: its rows in the ledger are written once for each key."""

    @property
    def run(self) -> TrackedRun:
        """The step's MLflow run."""

    @property
    def settings(self) -> Settings:
        """Where MLflow and the ledger are."""

    @property
    def cache(self) -> Path:
        """Directory for downloads, shared by all steps of this machine."""

    @property
    def log(self) -> Callable[[str], None]:
        """Gets each line of the log."""


def find_finished(client: MlflowClient, experiment: str, key: str) -> FinishedRun | None:
    """Return the newest finished run with this step key.

    :param client: MLflow's client.
    :param experiment: experiment id.
    :param key: step key.
    :return: the run, or None.
    """
    for run in _runs(client, experiment, key):
        finished = read_tags(experiment, run.info.run_id, run.data.tags)
        if run.info.status == "FINISHED" and finished:
            return finished
    return None


def find_runs(client: MlflowClient, places: Collection[RunPlace]) -> dict[str, FinishedRun]:
    """Return those of many runs that are there and finished, by run id."""
    if not places:
        return {}
    found: dict[str, FinishedRun] = {}
    for run in client.search_runs(
        sorted({place.experiment for place in places}),
        filter_string=run_filter(place.run_id for place in places),
        max_results=len(places),
    ):
        finished = read_tags(str(run.info.experiment_id), str(run.info.run_id), run.data.tags)
        if finished and run.info.status == "FINISHED":
            found[finished.run_id] = finished
    return found


def open_run(
    client: MlflowClient,
    experiment: str,
    key: str,
    *,
    name: str,
    tags: Mapping[str, str],
    folder: Path | None = None,
) -> TrackedRun:
    """Reopen the run that a dead or failed attempt left, or make one.

    The caller holds the step key's lock: nobody else on this machine opens the same run meanwhile. Of
    attempts on several machines the newest one has the run.

    :param client: MLflow's client.
    :param experiment: experiment id.
    :param key: step key.
    :param name: run name: the step's id.
    :param tags: lineage tags, set again on a reopened run.
    :param folder: the step's work folder. The attempt is named there before MLflow knows of it, so that the
        next step can tell a run that died here from one that lives elsewhere; None: nobody looks.
    :return: the run, with status ``RUNNING``.
    """
    attempt = uuid.uuid4().hex
    if folder is not None:
        with (folder / ATTEMPTS).open("a") as file:
            file.write(f"{attempt}\n")
    now = str(int(time.time() * 1000))
    all_tags = {**tags, TAG_STEP_KEY: key, TAG_OPENED_BY: attempt, TAG_OPENED_AT: now}
    left = _unfinished(client, experiment, key)
    if left:
        reopened = TrackedRun(client, left[0], fresh=False, attempt=attempt)
        reopened.set_tags(all_tags)  # first, so that an older attempt does not end it again
        client.update_run(left[0].info.run_id, status="RUNNING")
        for double in left[1:]:
            _drop(client, double)
        return reopened
    made = made_once(
        lambda: client.create_run(experiment, tags=all_tags, run_name=name),
        lambda: _unfinished(client, experiment, key),
        name=lambda run: str(run.info.run_id or ""),
        drop=functools.partial(_drop, client),
    )
    return TrackedRun(client, made, fresh=True, attempt=attempt)


def _unfinished(client: MlflowClient, experiment: str, key: str) -> list[Run]:
    found = [run for run in _runs(client, experiment, key) if run.info.status != "FINISHED"]
    return sorted(found, key=lambda run: (run.info.start_time or 0, run.info.run_id))


def _drop(client: MlflowClient, double: Run) -> None:
    client.set_terminated(double.info.run_id, status="KILLED")
    client.delete_run(double.info.run_id)


def _print(line: str) -> None:
    print(line, flush=True)


def _runs(client: MlflowClient, experiment: str, key: str) -> Iterator[Run]:
    yield from client.search_runs(
        [experiment], filter_string=f"tags.`{TAG_STEP_KEY}` = '{key}'", max_results=20
    )


def run_url(tracking_uri: str, experiment: str, run_id: str, *, artifact: str = "") -> str:
    """Return the page of a run in the MLflow UI.

    :param tracking_uri: as in ``MLFLOW_TRACKING_URI``.
    :param experiment: experiment id.
    :param run_id: run id.
    :param artifact: path of one of its artifacts, to show that; empty: the run.
    :return: the URL, without credentials; empty if the store has no UI.
    """
    if not is_served(tracking_uri):
        return ""
    shown = f"/artifacts/{artifact}" if artifact else ""
    return f"{public_url(tracking_uri)}/#/experiments/{experiment}/runs/{run_id}{shown}{MODEL_TRAINING}"


_LONGEST_NAME = 200
"""Characters of a parameter's or metric's name, without what stands before it: MLflow takes 250."""
_NOT_IN_NAMES = re.compile(r"[^\w\-. :]")
"""With the slash, which MLflow takes in some places: ``a//b`` and ``../a`` are no names."""


def free_name(name: str, taken: Container[str]) -> str:
    """Return a name that MLflow takes for a parameter or a metric.

    :param name: any text.
    :param taken: names that others have.
    :return: the text, with ``_`` for what MLflow does not take, and a number if another one has that name.
    """
    found = plain = _NOT_IN_NAMES.sub("_", name)[:_LONGEST_NAME]
    number = 1
    while found in taken:
        number += 1
        found = f"{plain}_{number}"
    return found


def _flatten(params: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in params.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
