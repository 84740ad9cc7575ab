"""From an Airflow connection to the environment variables by which a step's process reaches a store.

The variables are those that the stores' own clients read (delta-rs, fsspec, boto, the embedded Spark engine).
A secret goes into the environment of the step's process and nowhere else: into no request, argument or XCom.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from modelmill.errors import ConfigError

if TYPE_CHECKING:
    from airflow.sdk import Connection

_AWS_EXTRAS = frozenset({"aws_session_token", "endpoint_url", "region_name"})
_AWS_VARIABLES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ALLOW_HTTP",
)


def storage_environment(connection: Connection) -> dict[str, str | None]:
    """Return the variables that stand for a connection.

    :param connection: of the type ``aws``: login and password are the access key's id and secret (empty: the
        worker's own identity), ``endpoint_url``, ``region_name`` and ``aws_session_token`` are extras.
    :return: value by name; None: not set, even if the worker has it, since keys of one account and the token
        or the endpoint of another do not go together.
    :raises ConfigError: if the connection is of another type, or has extras that would not be followed.
    """
    if connection.conn_type != "aws":
        raise ConfigError(
            f"a storage connection is of the type aws ({connection.conn_id})",
            got=connection.conn_type,
            remedy="for another store, give the worker the variables that its clients read",
        )
    extra: Mapping[str, Any] = connection.extra_dejson
    for name in sorted(set(extra) - _AWS_EXTRAS):
        raise ConfigError(
            f"every extra of a storage connection must be followed ({connection.conn_id})",
            got=name,
            choices=_AWS_EXTRAS,
        )
    variables: dict[str, str | None] = dict.fromkeys(_AWS_VARIABLES) if connection.login else {}
    region, endpoint = extra.get("region_name"), extra.get("endpoint_url")
    values = {
        "AWS_ACCESS_KEY_ID": connection.login,
        "AWS_SECRET_ACCESS_KEY": connection.password,
        "AWS_SESSION_TOKEN": extra.get("aws_session_token"),
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,  # boto and fsspec read this one
        "AWS_ENDPOINT_URL": endpoint,
        # delta-rs speaks TLS only, unless it is told that plain HTTP is meant.
        "AWS_ALLOW_HTTP": "true" if str(endpoint or "").startswith("http://") else None,
    }
    return variables | {name: str(value) for name, value in values.items() if value}
