"""Tables as Airflow assets: what tasks write, what pipelines wait for, and what is watched, spelt alike."""

from __future__ import annotations

from pathlib import Path

from airflow.sdk import Asset, AssetAlias, AssetWatcher

from modelmill.errors import ConfigError
from modelmill.pipeline.spec import is_absolute_uri
from modelmill.tables.storage import table_location
from modelmill_operators.triggers import DeltaTableTrigger


def asset(uri: str) -> Asset:
    """Return the asset of a URI or a local path; its name is the URI as Airflow normalises it.

    :param uri: absolute path, or URI.
    :return: the asset.
    """
    normalised = Asset(uri=Path(uri).as_uri() if Path(uri).is_absolute() else uri).uri
    return Asset(name=normalised, uri=normalised)


def conditional_asset(uri: str) -> AssetAlias:
    """Return the outlet of a task that updates an asset only when it has a reason to, such as an alarm.

    Whatever waits for the asset names the asset itself, not this alias.

    :param uri: of the asset.
    :return: the alias, which has the asset's name.
    """
    return AssetAlias(asset(uri).name)


def watched_table(uri: str, *, poll_seconds: float | None = None) -> Asset:
    """Return a Delta table's asset that is updated whenever the table has a new version, whoever wrote it.

    It is the asset that a task has as its outlet when it writes the table::

        with DAG("after_tickets", schedule=watched_table("s3://lake/tickets")):
            ...

    Airflow keeps an asset's watchers as the DAG file says that it has read last: give this asset, and not a
    bare one, wherever another DAG names the same table.

    :param uri: absolute path or URI of the table.
    :param poll_seconds: seconds between two looks; None: the deployment's ``[modelmill] poll_seconds``.
    :return: the asset, with its watcher.
    :raises ConfigError: if the path is relative.
    """
    if not is_absolute_uri(uri):
        raise ConfigError(
            "a table that is watched is named by an absolute path or a URI",
            got=uri,
            remedy="a relative path means another place in each process",
        )
    bare = asset(uri)
    trigger = DeltaTableTrigger(uri=table_location(uri), asset=bare.name, poll_seconds=poll_seconds)
    return Asset(name=bare.name, uri=bare.uri, watchers=[AssetWatcher(name="delta_table", trigger=trigger)])
