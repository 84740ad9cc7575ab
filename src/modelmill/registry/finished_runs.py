"""Asking an MLflow server whether a step has been run, without importing MLflow.

A nightly run over unchanged tables consists of such questions. Importing MLflow costs 2 to 3 CPU seconds a
step, more than all else that a reused step does; the question itself is two requests of its REST API. A run
that is remembered (:func:`remember`) is asked for by its id, and so are hundreds of them, in one request.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import json
import os
import re
import urllib.parse
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelmill.artifacts import AnyReference, parse_reference
from modelmill.errors import ReplyError
from modelmill.settings import is_served
from modelmill.system.disk import try_write
from modelmill.system.replies import Limits, ask

TAG_STEP_KEY = "modelmill.step_key"
TAG_OUTPUTS = "modelmill.outputs"
TAG_TABLES = "modelmill.tables"

_LIMITS = Limits(most_bytes=64_000_000, seconds=10.0)
"""Of a reply: 200 runs with all that they log have some megabytes."""
_RUNS_A_REQUEST = 200
_MOST_REMEMBERED = 400
"""Results in each of the memory's 256 folders. One that is forgotten is searched for by its step key."""
_RUN_ID = re.compile(r"[0-9a-f]{32}")
_UNANSWERED = (
    *(OSError, http.client.HTTPException),
    *(ValueError, LookupError, TypeError, AttributeError, RecursionError),
)
"""No answer: none in time, one that breaks off or is no HTTP; or none that says what was asked."""


@dataclass(frozen=True)
class FinishedRun:
    """A run that a step has finished."""

    experiment: str
    run_id: str
    outputs: dict[str, AnyReference]
    """References by output port."""
    tables: dict[str, str]
    """State of the tables among them at the end: :func:`~modelmill.tables.versions.table_states`."""


def read_tags(experiment: str, run_id: str, tags: Mapping[str, str]) -> FinishedRun | None:
    """Return what a run's tags say of a finished step; None if they say nothing."""
    if TAG_OUTPUTS not in tags:
        return None
    outputs = {name: parse_reference(value) for name, value in json.loads(tags[TAG_OUTPUTS]).items()}
    return FinishedRun(experiment, run_id, outputs, json.loads(tags.get(TAG_TABLES, "{}")))


@dataclass(frozen=True)
class RunPlace:
    """Where the run lies that made a result."""

    experiment: str
    run_id: str


@dataclass(frozen=True)
class AskedRun:
    """What a run is asked for by: the same step key in another store or pipeline is another question."""

    tracking_uri: str
    """As in ``MLFLOW_TRACKING_URI``."""
    pipeline: str
    """Name of the experiment."""
    key: str
    """Step key."""

    @property
    def digest(self) -> str:
        """SHA-256 of all three, 64 hexadecimal digits."""
        parts = [self.tracking_uri.rstrip("/"), self.pipeline, self.key]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def remember(home: Path, asked: AskedRun, place: RunPlace) -> None:
    """Write down which run made a result; nothing is lost if it cannot be written.

    The memory is bounded: of about 100,000 results, those that nobody has asked for longest are forgotten.

    :param home: the work directory.
    :param asked: what it is asked for by.
    :param place: the run.
    """
    file = memory_file(home, asked)
    try_write(file, f"{place.experiment} {place.run_id}")
    _forget_oldest(file.parent)


def remembered(home: Path, asked: AskedRun) -> RunPlace | None:
    """Return the run that made a result, as far as this work directory knows.

    Whether the run still is there, and finished, is for the tracking store to say.

    :param home: the work directory.
    :param asked: what it is asked for by.
    :return: None if nothing is written down.
    """
    try:
        file = memory_file(home, asked)
        experiment, run_id = file.read_text().split()
        with contextlib.suppress(OSError):  # a home that is read-only
            os.utime(file)
    except (OSError, ValueError):
        return None
    return RunPlace(experiment, run_id) if _RUN_ID.fullmatch(run_id) else None


def _forget_oldest(folder: Path) -> None:
    with contextlib.suppress(OSError):  # another process forgets at the same time
        with os.scandir(folder) as entries:
            found = sorted((entry.stat().st_mtime, entry.path) for entry in entries)
        if len(found) > _MOST_REMEMBERED:
            # A quarter more than needed, so that it is not done each time.
            for _, path in found[: len(found) - _MOST_REMEMBERED * 3 // 4]:
                Path(path).unlink(missing_ok=True)


def memory_file(home: Path, asked: AskedRun) -> Path:
    """Return the file in which a run is remembered."""
    return home / "results" / asked.digest[:2] / asked.digest


def finished_runs(tracking_uri: str, places: Collection[RunPlace]) -> dict[str, FinishedRun]:
    """Return those of many runs that are there and finished, in a request for each 200 of them.

    :param tracking_uri: as in ``MLFLOW_TRACKING_URI``, of a server (HTTP).
    :param places: the runs.
    :return: the finished ones by run id; none if the server could not be asked.
    :raises ReplyError: if it sends more than a search for runs can give.
    """
    found: dict[str, FinishedRun] = {}
    asked = list(places)
    for first in range(0, len(asked), _RUNS_A_REQUEST):
        some = asked[first : first + _RUNS_A_REQUEST]
        body = {
            "experiment_ids": sorted({place.experiment for place in some}),
            "filter": run_filter(place.run_id for place in some),
            "max_results": len(some),
        }
        try:
            for run in _call(tracking_uri, "runs/search", body).get("runs", []):
                tags = {tag["key"]: tag["value"] for tag in run["data"].get("tags", [])}
                info = run["info"]
                finished = read_tags(str(info["experiment_id"]), str(info["run_id"]), tags)
                if finished and info["status"] == "FINISHED":
                    found[finished.run_id] = finished
        except _UNANSWERED:
            continue  # each is then asked for by its step key
    return found


def run_filter(run_ids: Iterable[str]) -> str:
    """Return MLflow's filter for runs with one of some ids."""
    return f"attributes.run_id IN ({', '.join(map(repr, run_ids))})"


def finished_run(tracking_uri: str, experiment: str, key: str) -> FinishedRun | None:
    """Return the newest finished run with a step key.

    :param tracking_uri: as in ``MLFLOW_TRACKING_URI``; anything but HTTP is not asked.
    :param experiment: the experiment's name.
    :param key: step key.
    :return: None if there is none, or if the server could not be asked: MLflow's own client then looks again.
    :raises ReplyError: if it sends more than a search for runs can give.
    """
    if not is_served(tracking_uri):
        return None
    try:
        query = urllib.parse.urlencode({"experiment_name": experiment})
        found = _call(tracking_uri, f"experiments/get-by-name?{query}")
        identifier = str(found["experiment"]["experiment_id"])
        body = {
            "experiment_ids": [identifier],
            "filter": f"tags.`{TAG_STEP_KEY}` = '{key}' and attributes.status = 'FINISHED'",
            "max_results": 5,
        }
        for run in _call(tracking_uri, "runs/search", body).get("runs", []):
            tags = {tag["key"]: tag["value"] for tag in run["data"].get("tags", [])}
            finished = read_tags(identifier, str(run["info"]["run_id"]), tags)
            if finished:
                return finished
    except _UNANSWERED:
        return None
    return None


def _call(tracking_uri: str, method: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    try:
        reply = ask(
            f"{tracking_uri.rstrip('/')}/api/2.0/mlflow/{method}",
            _LIMITS,
            body=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", **_authorization()},
            follows=False,  # the credentials are for this server alone
        )
    except ReplyError as error:
        if error.is_late:
            raise TimeoutError from error
        raise  # MLflow's own client, which would be asked next, reads it to its end
    if reply.status != http.HTTPStatus.OK:
        raise ValueError(reply.status)
    content: dict[str, Any] = json.loads(reply.content)
    return content


def _authorization() -> dict[str, str]:
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    if token:
        return {"Authorization": f"Bearer {token}"}
    user, password = os.environ.get("MLFLOW_TRACKING_USERNAME"), os.environ.get("MLFLOW_TRACKING_PASSWORD")
    if user and password:
        return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}
    return {}
