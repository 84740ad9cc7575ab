"""What ``modelmill gc`` removes by a policy: old runs, registered versions, files of old table versions."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import typer

from modelmill.errors import ConfigError
from modelmill.registry.backup import Folder
from modelmill.registry.dead_runs import mark_dead_runs
from modelmill.registry.mlflow_calls import mlflow_errors
from modelmill.registry.removal import clear_deleted_models, is_cleared, remove_run, remove_version, size_of
from modelmill.registry.retention import DAY, KnownRun, Needs, Policy, needed
from modelmill.registry.tracking import tracking_client
from modelmill.registry.versions import all_pages
from modelmill.settings import Settings, environment_params
from modelmill.tables.old_versions import OldFile, old_files, oldest_version, remove_old_file
from modelmill.tables.storage import table_location

if TYPE_CHECKING:
    from mlflow import MlflowClient

_DOCUMENTS = (".yaml", ".yml", ".json")


@dataclass(frozen=True)
class OldResult:
    """Something that is older than the policy keeps it."""

    what: str
    size: int
    """In bytes; 0 if it lies in a store."""
    why: str
    remove: Callable[[], bool]
    """Returns False if somebody has come for it meanwhile."""


def old_results(
    settings: Settings,
    *,
    tables: Sequence[str],
    run_days: float | None,
    version_days: float | None = None,
    table_days: float | None = None,
    now: float | None = None,
    say: Callable[[str], None] = typer.echo,
) -> Iterator[OldResult]:
    """Find what the policy does not keep, and say why the rest stays.

    :param settings: where things are kept.
    :param tables: tables whose old versions are looked at.
    :param run_days: days after which runs go that nothing needs; None: they stay.
    :param version_days: days after which registered versions go, too; None: they stay.
    :param table_days: days that a reader can go back in these tables; None: they stay as they are.
    :param now: seconds since 1970; None: this moment.
    :param say: gets a line for each reason that something stays for.
    :yield: what can go, in the order in which it has to: versions, runs, files of tables.
    :raises ConfigError: if the folder of the pipelines or the rule sets is not there.
    :raises TransientError: if MLflow does not answer.
    :raises TableError: if the ledger, or one of the tables, cannot be read.
    """
    with mlflow_errors(settings.tracking_uri):
        client = tracking_client(settings.tracking_uri)
        moment = {} if now is None else {"now": now}
        policy = Policy(run_days or table_days or 0, version_days, **moment)
        if version_days is not None and not os.environ.get("MODELMILL_PIPELINES"):
            say("no pipelines are looked at, as MODELMILL_PIPELINES is not set: what only they name goes")
        needs = needed(client, settings, policy, texts=_documents(settings))
        if run_days is not None:
            for reason, count in needs.reasons().items():
                say(f"stays: {count} runs: {reason}")
            yield from _old_runs(client, needs, settings, policy)
        if table_days is not None:
            for table in tables:
                yield from _old_files(table, needs, policy.now - table_days * DAY, say)


def mark_all_dead_runs(settings: Settings) -> list[str]:
    """Mark the runs of all pipelines whose process died in this work directory; return their ids."""
    with mlflow_errors(settings.tracking_uri):
        client = tracking_client(settings.tracking_uri)
        return [
            run
            for experiment in all_pages(client.search_experiments)
            for run in mark_dead_runs(client, experiment.experiment_id, settings.home / "steps")
        ]


def _old_runs(client: MlflowClient, needs: Needs, settings: Settings, policy: Policy) -> Iterator[OldResult]:
    for version in needs.old_versions:
        why = f"it was neither made nor champion in the last {policy.version_days:g} days"
        yield OldResult(f"models:/{version}", 0, why, partial(remove_version, client, version))
    everything = needs.everything
    for run in needs.old_runs:
        if not is_cleared(client, run):
            made = [everything.models[one] for one in everything.made.get(run.run_id, ())]
            size = size_of(client, run, made)
            what = f"run {run.run_id} of {run.experiment}/{run.step}"
            yield OldResult(what, size, _why(run, policy), partial(remove_run, client, run, settings, policy))

    def clear() -> bool:
        clear_deleted_models(client, policy)
        return True

    if deleted := clear_deleted_models(client, policy, apply=False):
        why = f"they were deleted {policy.run_days:g} days ago or before"
        yield OldResult(f"{len(deleted)} models in MLflow", 0, why, clear)


def _why(run: KnownRun, policy: Policy) -> str:
    days = (policy.now - run.last_used) / DAY
    if run.is_deleted:
        return f"it is deleted in MLflow, and was last used {days:.0f} days ago"
    return f"nothing that stays needs it, and it was last used {days:.0f} days ago"


def _old_files(table: str, needs: Needs, since: float, say: Callable[[str], None]) -> Iterator[OldResult]:
    place, moment = table_location(table), datetime.fromtimestamp(since, UTC)
    pinned, first = needs.pinned(place), oldest_version(place, moment)
    if older := [version for version in pinned if version < first]:
        say(f"stays: {len(older)} versions of {place} before {first}: runs or models that stay name them")
    for one in old_files(place, since=moment, pinned=pinned):
        yield OldResult(f"{place}/{one.path}", one.size, _last(one), partial(remove_old_file, one))


def _last(file: OldFile) -> str:
    return f"only versions of the table up to {file.last} need it"


def _documents(settings: Settings) -> Iterator[str]:
    """Yield the texts of pipelines, rule sets and deployments, and parameters: what they name stays."""
    params = environment_params()
    yield from params.values()
    written = {"MODELMILL_PIPELINES": os.environ.get("MODELMILL_PIPELINES")}
    written["MODELMILL_PARAM_RULES"] = params.get("rules")
    for variable, place in (*written.items(), ("", settings.deployments), ("", settings.queues)):
        if not place:
            continue
        folder = Folder(place)
        if variable and not folder.files.exists(folder.root):
            raise ConfigError(
                f"the folder that {variable} names must be there: what its documents name stays",
                got=place,
                remedy=f"correct {variable}, or make the folder",
            )
        for path in folder.paths():
            if path.endswith(_DOCUMENTS):
                yield b"".join(folder.read(path)).decode(errors="replace")
