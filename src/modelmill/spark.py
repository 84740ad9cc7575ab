"""The Spark engine: a connection, not code.

Jobs use DataFrames and SQL through Spark Connect only, so one job runs on the embedded engine (Sail: in this
process, no Java), on a Spark Connect server, and as an application that ``spark-submit`` starts.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from modelmill.errors import ConfigError, TransientError
from modelmill.settings import Settings
from modelmill.spark_submit import is_master
from modelmill.system import scratch
from modelmill.system.imports import needing_extra
from modelmill.system.memory import give_back_freed_memory
from modelmill.version import __version__

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_POOL_BYTES_EACH = 96 << 20
"""Memory of the embedded engine's sorts and groupings, by core."""
_ROW_GROUP = 16_384
"""Rows that the embedded engine holds until it writes them. Its default, a million, is gigabytes of texts."""


@contextlib.contextmanager
def session(settings: Settings | None = None) -> Iterator[SparkSession]:
    """Open a Spark session, and end it.

    :param settings: ``spark_remote`` names a Spark Connect server; without one, the session that
        ``spark-submit`` prepared is used if there is one, else the embedded engine; None: from the
        environment.
    :yields: the session; its time zone is UTC.
    :raises ConfigError: if pyspark or the engine is not installed.
    :raises TransientError: if the server does not answer.
    """
    settings = settings or Settings.from_environment()
    with needing_extra("Spark steps need", "data"):
        from pyspark.sql import SparkSession
    with contextlib.ExitStack() as stack:
        prepared = os.environ.get("PYSPARK_GATEWAY_PORT") or os.environ.get("SPARK_REMOTE")
        if settings.spark_remote and not (prepared and is_master(settings.spark_remote)):
            spark = _connect(settings.spark_remote)
        elif prepared:
            spark = SparkSession.builder.getOrCreate()
        else:
            spark = _connect(stack.enter_context(_embedded()))
        # The embedded server's stop waits for ever for a session that is still open: sessions end first.
        stack.callback(spark.stop)
        stack.callback(_remove_scratch, spark)
        spark.conf.set("spark.sql.session.timeZone", "UTC")
        with _engine_errors():
            yield spark


_scratch: dict[int, tuple[contextlib.ExitStack, Path]] = {}
"""Scratch folder of each open session, by its ``id``."""


def scratch_folder(spark: SparkSession) -> Path:
    """Return a folder of this machine that lives as long as a session.

    :param spark: a session that :func:`session` opened.
    :return: the folder; only this user may read it.
    """
    if id(spark) not in _scratch:
        stack = contextlib.ExitStack()
        _scratch[id(spark)] = stack, stack.enter_context(scratch.scratch_folder("modelmill-spark-"))
    return _scratch[id(spark)][1]


def _remove_scratch(spark: SparkSession) -> None:
    found = _scratch.pop(id(spark), None)
    if found is not None:
        found[0].close()


@contextlib.contextmanager
def _embedded() -> Iterator[str]:
    os.environ.setdefault("RUST_LOG", "error")  # the engine's log would drown the task's
    give_back_freed_memory()
    # The engine has an allocator of its own, mimalloc, which by default keeps freed pages: by the end of a
    # build they are most of its memory. It reads this once, when the engine is loaded.
    os.environ.setdefault("MIMALLOC_PURGE_DELAY", "0")
    # The engine takes all memory there is by default. In bounds it sorts and groups on disk.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    os.environ.setdefault("SAIL_RUNTIME__MEMORY_POOL__TYPE", "fair")
    os.environ.setdefault("SAIL_RUNTIME__MEMORY_POOL__FAIR__MAX_SIZE", str(cores * _POOL_BYTES_EACH))
    os.environ.setdefault("SAIL_OPTIMIZER__PREFER_HASH_JOIN", "false")  # a hash join cannot use the disk
    os.environ.setdefault("SAIL_PARQUET__MAX_ROW_GROUP_SIZE", str(_ROW_GROUP))
    os.environ.setdefault("SAIL_PARQUET__MAXIMUM_PARALLEL_ROW_GROUP_WRITERS", "1")
    os.environ.setdefault("SAIL_PARQUET__MAXIMUM_BUFFERED_RECORD_BATCHES_PER_STREAM", "2")
    with needing_extra("Spark steps need", "data"):
        from pysail.spark import SparkConnectServer
    server = SparkConnectServer("127.0.0.1", 0)
    server.start(background=True)
    address = server.listening_address
    if address is None:
        raise TransientError("the embedded Spark engine must start", remedy="see its log above")
    try:
        yield f"sc://127.0.0.1:{address[1]}"
    finally:
        server.stop()


def _connect(url: str) -> SparkSession:
    from pyspark.errors import PySparkException
    from pyspark.sql import SparkSession

    if not url.startswith("sc://"):
        raise ConfigError(
            "a session needs a Spark Connect server (MODELMILL_SPARK_REMOTE)",
            got=url,
            remedy="write sc://HOST:PORT; to a master (spark://HOST:PORT, yarn), jobs alone are submitted",
        )
    try:
        # Without this check, the client would retry for ten minutes before it reports an error.
        address = urlsplit(url)
        socket.create_connection((address.hostname or "", address.port or 15002), timeout=10).close()
        return SparkSession.builder.remote(url).create()
    except (PySparkException, OSError) as error:
        raise TransientError(
            f"the Spark Connect server must answer ({' '.join(str(error).split())[:200]})",
            got=url,
            remedy="start it, or unset MODELMILL_SPARK_REMOTE for the embedded engine",
        ) from error


_LACKING = (
    re.compile(r"ModuleNotFoundError: (No module named '[\w.]+')"),
    re.compile(r"ImportError: (cannot import name '\w+' from '[\w.]+')"),
    re.compile(r"AttributeError: (Can't get attribute '[\w.]+' on <module '[\w.]+')"),
    re.compile(r"(Python in worker has different version[^.]*\.\d+ than that in driver[^.]*\.\d+)"),
    re.compile(r"PYTHON_VERSION_MISMATCH\]\s*([^\n]+)"),
    re.compile(r"(Cannot run program \"[^\"]+\")"),
)
"""What an engine's errors say of a Python worker in which a job's functions cannot run."""


_FULL = re.compile(r"Failed to allocate [^\n]*pool_size: [^)]*\)")
"""What Sail says where its memory pool is full, and what it does cannot go on on the disk."""


@contextlib.contextmanager
def _engine_errors() -> Iterator[None]:
    """Name what the engine or its Python workers lack: no retry brings it."""
    from pyspark.errors import PySparkException

    try:
        yield
    except PySparkException as error:
        text = str(error)
        if full := _FULL.search(text):
            raise ConfigError(
                "the embedded Spark engine must have memory for what it sorts and groups of this table",
                got=full[0],
                remedy="raise SAIL_RUNTIME__MEMORY_POOL__FAIR__MAX_SIZE, which is in bytes, or let a Spark "
                "cluster do it: MODELMILL_SPARK_REMOTE",
            ) from error
        lacking = next((found[1] for found in (one.search(text) for one in _LACKING) if found), None)
        if lacking is None:
            raise
        raise ConfigError(
            "the Python of Spark's workers must have this modelmill, with the extras data and serve, and the "
            f"minor version of this process's Python ({__version__} and {platform.python_version()} here)",
            got=" ".join(lacking.split()),
            remedy="install it on every worker, and name that Python in spark.pyspark.python or in "
            "PYSPARK_PYTHON where the Connect server or spark-submit starts",
        ) from error
