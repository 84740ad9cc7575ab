"""Removing runs and versions that nothing needs any more (:mod:`modelmill.registry.retention`).

A run first leaves the runs that can be found, so that nobody reuses it; then its files go, then its models,
then, in a database that is reached without a server, its rows. Whoever is killed in between leaves a run that
MLflow has among the deleted ones, and the next removal goes on there.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from modelmill.registry.finished_runs import AskedRun, memory_file
from modelmill.registry.retention import KnownRun, Policy, last_reuse
from modelmill.registry.versions import all_pages
from modelmill.settings import Settings
from modelmill.system.locks import is_held, locked

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel


def remove_version(client: MlflowClient, version: str) -> bool:
    """Remove a registered version, unless it has been given an alias since.

    :param client: MLflow's client.
    :param version: ``NAME/VERSION``; MLflow gives its number to no other one.
    :return: whether it is gone.
    """
    name, _, number = version.rpartition("/")
    if client.get_model_version(name, number).aliases:
        return False
    client.delete_model_version(name, number)
    return True


def remove_run(client: MlflowClient, run: KnownRun, settings: Settings, policy: Policy) -> bool:
    """Remove a run with its models and reports, unless somebody has come for it since it was found.

    :param client: MLflow's client.
    :param run: the run.
    :param settings: where the work directory is.
    :param policy: how long runs are kept.
    :return: whether it is gone.
    """
    lock = settings.home / "steps" / run.key / "lock"
    with contextlib.ExitStack() as stack:
        if lock.exists():
            if is_held(lock):
                return False
            stack.enter_context(locked(lock))
        reused = last_reuse(settings, run.experiment, run.key, run.run_id)
        if policy.run_is_young(reused):
            return False
        if not run.is_deleted:
            if client.get_run(run.run_id).info.status not in ("FINISHED", "FAILED", "KILLED"):
                return False  # another machine has opened it again
            client.delete_run(run.run_id)
        if reused:
            asked = AskedRun(settings.tracking_uri, run.experiment, run.key)
            memory_file(settings.home, asked).unlink(missing_ok=True)
        _clear(client, run.run_id)
        if lock.exists():  # who waits for it makes it anew
            shutil.rmtree(lock.parent)
    return True


def _clear(client: MlflowClient, run_id: str) -> None:
    """Remove the files of a deleted run and of its models, and then what MLflow's database says of them."""
    info, store = client.get_run(run_id).info, _database(client)
    whose = {"experiment_ids": [info.experiment_id], "filter_string": f"source_run_id = '{run_id}'"}
    for model in all_pages(client.search_logged_models, **whose):
        _remove_files(model.artifact_location)
        client.delete_logged_model(model.model_id)
        if store is not None:
            store._hard_delete_logged_model(model.model_id)  # noqa: SLF001 (as mlflow gc does)
    _remove_files(info.artifact_uri)
    if store is not None:
        store._hard_delete_run(run_id)  # noqa: SLF001 (as mlflow gc does)


def is_cleared(client: MlflowClient, run: KnownRun) -> bool:
    """Return whether only a server's own ``mlflow gc`` can remove more of a run."""
    return run.is_deleted and _database(client) is None and not client.list_artifacts(run.run_id)


def size_of(client: MlflowClient, run: KnownRun, models: Iterable[LoggedModel]) -> int:
    """Return the bytes of the files of a run and of its models, as far as they lie on this machine."""
    places = [client.get_run(run.run_id).info.artifact_uri, *(one.artifact_location for one in models)]
    return sum(
        file.stat().st_size
        for place in map(urlsplit, places)
        if place.scheme in ("", "file")
        for file in Path(place.path).rglob("*")
        if file.is_file()
    )


def clear_deleted_models(client: MlflowClient, policy: Policy, *, apply: bool = True) -> list[str]:
    """Remove what a database without a server still has of models that were deleted some days ago.

    :param client: MLflow's client.
    :param policy: how long they are kept.
    :param apply: False: they are only found.
    :return: ids of the models; none with a server, whose ``mlflow gc`` does this.
    """
    store, found = _database(client), list[str]()
    if store is None:
        return found
    for model_id in store._get_deleted_logged_models(older_than=0):  # noqa: SLF001 (as mlflow gc does)
        model = store.get_logged_model(model_id, allow_deleted=True)
        if not policy.run_is_young(model.last_updated_timestamp / 1000):
            found.append(str(model_id))
            if apply:
                _remove_files(model.artifact_location)
                store._hard_delete_logged_model(model_id)  # noqa: SLF001 (as mlflow gc does)
    return found


def _database(client: MlflowClient) -> Any:
    """Return MLflow's store if it is a database that this process opens; None if it is a server's."""
    store = client._tracking_client.store  # noqa: SLF001 (what has no public name)
    return store if hasattr(store, "_hard_delete_run") else None


def _remove_files(uri: str) -> None:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    with contextlib.suppress(FileNotFoundError):
        get_artifact_repository(uri).delete_artifacts()  # type: ignore[no-untyped-call] # MLflow has no types here
    place = urlsplit(uri)
    if place.scheme in ("", "file"):
        with contextlib.suppress(OSError):  # MLflow makes a folder around that of the files
            Path(place.path).parent.rmdir()
