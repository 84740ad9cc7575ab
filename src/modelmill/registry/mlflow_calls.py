"""Asking MLflow: bounded in time, errors that name the server, and nothing made twice.

MLflow's client asks again by itself after a time-out, a broken connection or a 5xx. That is right where
asking twice changes nothing. Where it makes something (a run, a logged model, a version), the server may have
done what it was asked although no reply came; so there we ask once, look for what was made, and only then ask
again (:func:`made_once`).
"""

from __future__ import annotations

import contextlib
import os
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from modelmill.errors import ConfigError, ModelmillError, TransientError
from modelmill.redaction import redacted
from modelmill.settings import mlflow_patience

Made = TypeVar("Made")

_TIMEOUT = "MLFLOW_HTTP_REQUEST_TIMEOUT"
_RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
_BACKOFF, _JITTER, _MOST_RETRIES = 2, 1, 10
"""MLflow's own defaults, and the most retries that it takes."""
_UPLOAD_BYTES_A_SECOND = 5_000_000
_BRIEF = {_TIMEOUT: "5", _RETRIES: "0"}
_LIBRARIES = ("mlflow", "requests", "urllib3", "sqlalchemy", "google", "http")
"""Whose exceptions are about a call to MLflow, if MLflow's code is on the stack."""


def retries(reply_seconds: int, call_seconds: int) -> int:
    """Return how often a call may be tried again, so that it ends in time if the server never replies.

    :param reply_seconds: seconds that each try waits for its reply.
    :param call_seconds: seconds that the call may take in all.
    :return: from 1 to 10.
    """
    spent, count = 2.0 * reply_seconds + _JITTER, 1
    while count < _MOST_RETRIES:
        spent += reply_seconds + _BACKOFF * 2.0**count + _JITTER
        if spent > call_seconds:
            break
        count += 1
    return count


def bound_calls() -> None:
    """Bound what each call of MLflow's client may take, unless MLflow's own variables do."""
    reply, call = mlflow_patience()
    os.environ.setdefault(_TIMEOUT, str(reply))
    os.environ.setdefault(_RETRIES, str(retries(int(os.environ[_TIMEOUT]), call)))


@contextlib.contextmanager
def uploading(size: int) -> Iterator[None]:
    """Give the server time to store what it is sent, before it replies.

    :param size: bytes of the largest file.
    :yield: while files are sent.
    """
    usual = int(os.environ.get(_TIMEOUT) or mlflow_patience()[0])
    with _environment({_TIMEOUT: str(usual + size // _UPLOAD_BYTES_A_SECOND)}):
        yield


@contextlib.contextmanager
def briefly(say: Callable[[str], None]) -> Iterator[None]:
    """Try something that is not worth waiting for: one try of five seconds, and no error.

    :param say: gets what went wrong.
    :yield: while it is tried.
    """
    try:
        with _environment(_BRIEF):
            yield
    except Exception as error:  # something worse is about to be raised
        say(f"MLflow did not take it: {redacted(_reason(error))}")


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def made_once(
    make: Callable[[], Made],
    find: Callable[[], Sequence[Made]],
    *,
    name: Callable[[Made], str],
    drop: Callable[[Made], None] | None = None,
) -> Made:
    """Make something on the server, once, whatever becomes of the replies.

    :param make: asks for it. It carries a mark by which ``find`` knows it.
    :param find: returns what carries the mark, the oldest first.
    :param name: returns the id of what was made; a reply without one is taken for lost.
    :param drop: removes one of several, and is then looked for: a request may also arrive twice. None: the
        caller looks for doubles itself.
    :return: what was made.
    :raises Exception: the last try's, if none was answered in time and nothing was made; at once if the
        server refuses.
    """
    deadline, pause = time.monotonic() + mlflow_patience()[1], 0.25
    while True:
        made, lost = _try(make)
        if made is not None and not name(made):
            made = None
        if lost is None and drop is None and made is not None:
            return made
        found = list(find())
        if found or (lost is None and made is not None):
            break
        if time.monotonic() + pause > deadline:
            raise lost or TransientError("MLflow must say what it made", remedy="see the server's log")
        time.sleep(pause)
        pause = min(2 * pause, 8.0)
    if not found and made is not None:
        return made
    for other in found[1:]:
        if drop is not None:
            drop(other)
    return found[0]


def _try(make: Callable[[], Made]) -> tuple[Made | None, Exception | None]:
    try:
        with _environment({_RETRIES: "0"}):
            made = make()
    except Exception as error:
        if isinstance(error, ModelmillError) or _is_refusal(error):
            raise
        return None, error
    return made, None


def _is_refusal(error: Exception) -> bool:
    """Return whether the server has answered that it will not: asking again gets the same answer."""
    from mlflow.exceptions import MlflowException

    if not isinstance(error, MlflowException):
        return False
    status = int(error.get_http_status_code())  # type: ignore[no-untyped-call] # MLflow has no types here
    return 400 <= status < 500 and status not in (408, 429)


@contextlib.contextmanager
def mlflow_errors(tracking_uri: str) -> Iterator[None]:
    """Make errors of MLflow's client ours.

    :param tracking_uri: as in ``MLFLOW_TRACKING_URI``.
    :yield: while MLflow is used.
    :raises ConfigError: if the server does not let us in.
    :raises TransientError: if it does not answer, or not as it should.
    """
    try:
        yield
    except Exception as error:
        typed = mlflow_error(error, tracking_uri)
        if typed is None:
            raise
        raise typed from error


def mlflow_error(error: Exception, tracking_uri: str) -> ModelmillError | None:
    """Return our error for one of MLflow's client.

    :param error: what was raised.
    :param tracking_uri: as in ``MLFLOW_TRACKING_URI``.
    :return: the error; None if it is not about MLflow.
    """
    if isinstance(error, ModelmillError) or not _is_of_mlflow(error):
        return None
    status = _status(error)
    if status in (401, 403):
        return ConfigError(
            f"MLflow must let us in ({_reason(error)})",
            got=redacted(tracking_uri),
            remedy="set MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
        )
    refused = status is not None and 400 <= status < 500
    return TransientError(
        f"MLflow must {'do what it is asked' if refused else 'answer'} ({_reason(error)})",
        got=redacted(tracking_uri),
        remedy="look at the server's log and its disk; the step goes on where it was when it is tried again",
    )


def _is_of_mlflow(error: Exception) -> bool:
    from_library = type(error).__module__.partition(".")[0] in _LIBRARIES
    if from_library and type(error).__module__.startswith("mlflow"):
        return True
    frames = traceback.walk_tb(error.__traceback__)
    asked = any(str(frame.f_globals.get("__name__", "")).startswith("mlflow.") for frame, _ in frames)
    return asked and (from_library or isinstance(error, ValueError | OSError | KeyError))


def _status(error: Exception) -> int | None:
    status = getattr(error, "get_http_status_code", None)
    found = status() if callable(status) else getattr(getattr(error, "response", None), "status_code", None)
    return found if isinstance(found, int) else None


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
