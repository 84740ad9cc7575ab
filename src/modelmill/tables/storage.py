"""Where a table lies, and the files below its directory.

A store other than the local disk is reached with the variables that its own clients read, such as
``AWS_ACCESS_KEY_ID`` and ``AWS_ENDPOINT_URL``: delta-rs, fsspec and the embedded Spark engine all take them
from the environment, so no secret passes through a configuration, a reference or a command line.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator

from modelmill.errors import ConfigError, TableError, TransientError
from modelmill.settings import table_places, table_protocols

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

STORES = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "hdfs", "dbfs"})
"""Protocols that are allowed by default. Others would let a pipeline ask any server that this machine reaches
(``http``, ``webhdfs``), name a local file that does not look like one (``fs``), or name further places within
a file or a URL (``reference``, ``simplecache::``)."""
_TABLE_STORES = STORES | {"adl", "azure", "viewfs"}
"""Protocols of tables: other names of the same stores, which delta-rs knows."""

_SAME_STORE = {
    "s3a": "s3",
    "gcs": "gs",
    **dict.fromkeys(("abfs", "abfss", "adl", "azblob", "azdls", "azure"), "az"),
    **dict.fromkeys(("viewfs", "webhdfs"), "hdfs"),
}

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_ONE_SLASH = re.compile(r"file:/(?!/)", re.IGNORECASE)
_PASSWORD = re.compile(r"[A-Za-z][A-Za-z0-9+.:-]*://[^/?#]*:[^/?#]*@")
_LOG_FILE = re.compile(r"\d{20}\.[^#]*")
"""A commit or a checkpoint. One with a ``#`` is not linked into place: its writer was killed, or is busy."""

_NO_ANSWER = ("error sending request", "retry_timeout", "timed out", "Server error")
"""What delta-rs says of a store that did not answer although it was asked again."""


def table_location(uri: str) -> str:
    """Return the one spelling of a table's place that references use.

    :param uri: path or URI.
    :return: an absolute path for a local table, else the URI without a slash at its end.
    :raises TableError: if it is empty, or has a password in it: references are shown and kept. If it is the
        URL of a file on another machine, or of one whose path would be cut at ``?`` or ``#``.
    """
    if not uri.strip():
        raise TableError("a table's path must not be empty", remedy="name the table's directory")
    if _PASSWORD.match(uri):
        raise TableError(
            "a URI has no password in it",
            got=uri,
            remedy="give it to the store's client in environment variables, or by storage_connection",
        )
    if scheme := _SCHEME.match(uri):  # FILE:///a is a local path, too
        uri = f"{scheme[1].lower()}{uri[scheme.end(1) :]}"
    if uri.startswith("file://"):
        uri = _path_of(uri)
    elif _ONE_SLASH.match(uri):  # as Hadoop and Spark write it
        uri = unquote(uri[len("file:") :])
    if "://" in uri:
        return uri.rstrip("/")
    if "\0" in uri:
        raise TableError("a path has no NUL in it", got=uri, remedy="remove the character")
    return os.path.abspath(uri)  # noqa: PTH100 (keeps links as they are)


def _path_of(uri: str) -> str:
    """Return the path in a URL of a file on this machine."""
    parts = urlsplit(uri)
    if parts.netloc not in ("", "localhost"):
        raise TableError(
            "a file:// URL names no other machine",
            got=uri,
            remedy="write file:///folder, with three slashes, for a folder of this machine",
        )
    if parts.query or parts.fragment:
        raise TableError(
            "a file:// URL has neither ? nor # in it", got=uri, remedy="write the path without file://"
        )
    return unquote(parts.path)


TableLocation = Annotated[str, AfterValidator(table_location)]
"""A table's place in a request, in the spelling of :func:`table_location`."""


def is_local(uri: str) -> bool:
    """Return whether a table's place is a path on this machine.

    :param uri: as :func:`table_location` gives it.
    :return: False for ``s3://…`` and the like.
    """
    return "://" not in uri


def check_place(place: str) -> None:
    """Refuse a table's place that delta-rs would misread, or that the deployment does not allow.

    :param place: as :func:`table_location` gives it.
    :raises TableError: if a local path has a percent sign: of a table in ``a%20b``, the log in ``a b`` would
        be read. If a URI has a protocol that is not allowed, or does not say plainly which folder it means;
        or if it lies elsewhere than where the deployment says that tables of such a store lie.
    :raises ConfigError: if the deployment does not say so plainly.
    """
    if is_local(place):
        if "%" in place:
            raise TableError("a local table's path has no % in it", got=place, remedy="rename the directory")
        return
    scheme, _, rest = place.partition("://")
    named = [_below(one) for one in table_places()]
    allowed = _TABLE_STORES | set(table_protocols()) | {one.partition("://")[0] for one in named}
    if scheme not in allowed:
        raise TableError(
            f"a table lies on a local disk, or in a store that is allowed ({', '.join(sorted(allowed))})",
            got=place,
            remedy="name another place, or add the protocol to MODELMILL_STORES",
        )
    parts = [unquote(unquote(part)) for part in rest.split("/")[1:]]
    if any(part in ("", ".", "..") for part in parts) or re.search(r"[?#\\\x00-\x1f\x7f]", rest):
        raise TableError(
            "a table's URI names its folder, without //, . or .., and without ? or #",
            got=place,
            remedy="write it as s3://bucket/folder",
        )
    own = [one for one in named if store_of(one.partition("://")[0]) == store_of(scheme)]
    if own and not f"{place}/".startswith(tuple(own)):
        raise TableError(
            f"tables of this store lie below a place that the deployment names ({', '.join(own)})",
            got=place,
            remedy="name one of them, as it is written there, or add the place to MODELMILL_STORES",
        )


def store_of(scheme: str) -> str:
    """Return one name of a store, of which several are in use.

    :param scheme: protocol of a URI, in small letters.
    :return: such as ``hdfs`` for ``viewfs``.
    """
    scheme = scheme.removeprefix("opendal+")
    return _SAME_STORE.get(scheme, scheme)


def _below(place: str) -> str:
    """Return what the URIs below a place of the deployment's begin with."""
    scheme, _, rest = place.partition("://")
    if not scheme or not rest:
        raise ConfigError(
            "MODELMILL_STORES lists protocols, and places with what follows the protocol",
            got=place,
            remedy="write a place as hdfs://name:8020, or as hdfs:/// for the one that HDFS itself names",
        )
    return f"{scheme.lower()}://{rest.rstrip('/')}/"


def table_exists(uri: str) -> bool:
    """Return whether there is a Delta log at a place.

    :param uri: path or URI.
    :return: True if a Delta table was begun there, readable or not.
    :raises TableError: if its store refuses to say.
    :raises TransientError: if its store does not answer.
    """
    place = table_location(uri)
    check_place(place)
    if is_local(place):
        # A writer that is just beginning a table has made the folder, and no commit yet.
        return any(_LOG_FILE.fullmatch(path.name) for path in Path(place, "_delta_log").glob("*"))
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    try:
        return bool(DeltaTable.is_deltatable(place))
    except (DeltaError, OSError, ValueError) as error:
        raise unreachable(place, error) or TableError(
            f"the table's store must say whether there is a table ({one_line(error)})",
            got=place,
            remedy="check the URI, and the variables with the store's credentials",
        ) from error


def unreachable(place: str, error: Exception) -> TransientError | None:
    """Return the error for a store that does not answer; None if the error says something else."""
    text = one_line(error)
    if is_local(place) or not any(sign in text for sign in _NO_ANSWER):
        return None
    return TransientError(
        f"the table's store must answer ({text})",
        got=place,
        remedy="try again, or check AWS_ENDPOINT_URL and the network",
    )


def one_line(error: Exception) -> str:
    """Return what delta-rs says, in one line."""
    # delta-rs may colour what it says, and may add a stack trace, which begins at "0:".
    plain = re.sub(r"\x1b\[\d+m", "", str(error).partition("\n   0:")[0])
    return " ".join(plain.split())[:300]


def table_files(place: str) -> FileSystem:
    """Return the files below a table's directory, wherever it is.

    :param place: as :func:`table_location` gives it.
    :return: a file system whose paths are relative to the table.
    """
    from deltalake.fs import DeltaStorageHandler
    from pyarrow.fs import LocalFileSystem, PyFileSystem, SubTreeFileSystem

    if is_local(place):
        # Arrow's threads call a file system written in Python while the interpreter ends, and that aborts it.
        return SubTreeFileSystem(place, LocalFileSystem())
    return PyFileSystem(DeltaStorageHandler(place))
