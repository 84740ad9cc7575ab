"""From an Airflow connection to the environment variables by which a step's process reaches a language model.

The key goes into the environment of the step's process and nowhere else: into no request, argument or XCom.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from modelmill.errors import ConfigError
from modelmill.language_models.endpoint import KEY_VARIABLE, URL_VARIABLE

if TYPE_CHECKING:
    from airflow.sdk import Connection

_EXTRAS = frozenset({"path"})
_PATH = "/v1"


def llm_environment(connection: Connection) -> dict[str, str | None]:
    """Return the variables that stand for a connection.

    :param connection: of the type ``http``: host, schema (``https`` if it is empty) and port, or a whole URL
        as host; the password is the key. The extra ``path`` is the URL's path, ``/v1`` if neither has one.
    :return: value by name; None: not set, even if the worker has it: one account's key is not sent to another
        endpoint.
    :raises ConfigError: if the connection is of another type, has no host, or extras that would not be
        followed.
    """
    about = f"a connection to a language model ({connection.conn_id})"
    if connection.conn_type != "http":
        raise ConfigError(f"{about} is of the type http", got=connection.conn_type)
    extra: Mapping[str, Any] = connection.extra_dejson
    for name in sorted(set(extra) - _EXTRAS):
        raise ConfigError(f"every extra of {about} must be followed", got=name, choices=_EXTRAS)
    host = (connection.host or "").strip().rstrip("/")
    if not host:
        raise ConfigError(f"{about} has a host", remedy="such as https://models.example.com/v1")
    parts = urlsplit(host if "://" in host else f"{connection.schema or 'https'}://{host}")
    port = f":{connection.port}" if connection.port and parts.port is None else ""
    path = str(extra.get("path") or parts.path or _PATH)
    url = f"{parts.scheme}://{parts.netloc}{port}/{path.strip('/')}"
    return {URL_VARIABLE: url, KEY_VARIABLE: connection.password or None}
