"""An engine's errors about wrong input, as errors of one line."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from modelmill.errors import InputError, TableError


@contextlib.contextmanager
def as_input_error(rule: str, *, got: object = None, kind: type[InputError] = TableError) -> Iterator[None]:
    """Turn an engine's error about its input into an error of one line, which a retry cannot help.

    :param rule: what has to hold.
    :param got: the value that breaks it.
    :param kind: class of the error.
    :yields: nothing.
    :raises InputError: of that class, for every error of the engine that is about the input.
    """
    from pyspark.errors import PySparkException

    # The client logs what it is about to raise, with a stack trace of the JVM.
    logging.getLogger("SQLQueryContextLogger").setLevel(logging.CRITICAL)
    try:
        yield
    except PySparkException as error:
        said = str(error).split("JVM stacktrace:")[0].strip()
        if "Traceback (most recent call last)" in said:  # of a worker: its error is the last line
            said = said.splitlines()[-1]
        text = " ".join(said.split())
        if not _is_about_input(error, text):
            raise
        raise kind(f"{rule}: {text[:300]}", got=got, remedy="fix the input or the configuration") from error


_INPUT_ERRORS = frozenset(
    {
        "AnalysisException",
        "ArithmeticException",
        "IllegalArgumentException",
        "NumberFormatException",
        "ParseException",
        "SparkRuntimeException",
        "UnsupportedOperationException",
    }
)
_INPUT_PHRASES = ("MALFORMED_RECORD", "FAILED_READ_FILE", "Parquet error:", "Arrow error:", "Json error:")
"""Parts of messages whose class says nothing: of a JVM Spark, and of Sail."""


def is_memory_full(error: Exception) -> bool:
    """Return whether an error, of whatever class, says that the embedded engine's memory is full."""
    return "Failed to allocate" in str(error)


def _is_about_input(error: Exception, text: str) -> bool:
    if is_memory_full(error):
        return False
    named = {kind.__name__ for kind in type(error).__mro__} & _INPUT_ERRORS
    return bool(named) or any(phrase in text for phrase in _INPUT_PHRASES)
