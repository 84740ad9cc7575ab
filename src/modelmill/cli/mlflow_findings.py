"""Whether an MLflow server is set up safely, as far as one who asks it can see.

Nothing is changed there: what could change something is asked with a part missing that MLflow looks for after
it has decided whether it may be asked at all.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import sqlite3
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urlsplit

from packaging.version import InvalidVersion, Version

from modelmill.cli.findings import LEAST, Finding, is_older
from modelmill.errors import ReplyError
from modelmill.redaction import public_url, redacted
from modelmill.settings import Settings, is_served, mlflow_patience
from modelmill.system.replies import Limits, Reply, ask

_LOCAL = ("localhost", "127.0.0.1", "::1")
_MOST_CLOCK_SECONDS = 5.0
"""The ledger's rule for half-done moves allows for a few seconds between machines."""
_MOST_BYTES = 4_000_000
_STRANGER = "modelmill-doctor.invalid"
"""A name that no server has (RFC 2606)."""
_ADMIN = ("admin", "password1234")
"""Whom servers before 3.17 let in, unless somebody has changed it."""
_SHORTEST_PASSWORD = 12
"""As MLflow itself has it."""


def examine_mlflow(settings: Settings) -> Iterator[Finding]:
    """Check where runs and models are kept, and whether anybody else may change them.

    :param settings: the deployment.
    :yield: findings.
    """
    uri = settings.tracking_uri
    if not is_served(uri):
        yield _database(uri)
        return
    server = _Server(uri, urlsplit(uri))
    yield from _client(server)
    began = time.time()
    try:
        answer = server.ask("/health", follows=True)
        if answer.status != HTTPStatus.OK:
            raise ConnectionError(f"status {answer.status}")
    except (OSError, http.client.HTTPException, ReplyError) as error:
        reason = redacted(f"{redacted(uri)}: {type(error).__name__}: {error}")[:300]
        yield Finding("mlflow", "failed", reason, "start it, or set MLFLOW_TRACKING_URI")
        return
    ended = time.time()
    yield Finding("mlflow", "ok", f"{redacted(uri)} answers in {ended - began:.2f} s")
    yield from _version(server)
    yield from _browsers(server)
    if not server.is_local:
        yield from _strangers(server)
        yield from _users(server)
    yield from _clock(answer, (began + ended) / 2)


def _database(uri: str) -> Finding:
    """Check a database that the steps open themselves; only SQLite's file can be looked at from here."""
    shown = redacted(uri)
    file = Path(uri.removeprefix("sqlite:///"))
    if not uri.startswith("sqlite:///") or not file.exists():
        return Finding("mlflow", "ok", f"{shown}, without a server")
    try:
        with contextlib.closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as database:
            (said,) = database.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        said = str(error)
    if said == "ok":
        return Finding("mlflow", "ok", f"{shown}, without a server")
    remedy = "restore it from a copy: modelmill restore puts a backup into an empty deployment"
    return Finding("mlflow", "failed", f"{shown} cannot be read whole: {said}"[:300], remedy)


@dataclass(frozen=True)
class _Server:
    uri: str
    parts: SplitResult

    @property
    def is_local(self) -> bool:
        return self.parts.hostname in _LOCAL

    @property
    def user(self) -> tuple[str, str]:
        """Name and password with which the steps log in; empty: none."""
        if self.parts.username:
            return unquote(self.parts.username), unquote(self.parts.password or "")
        names = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
        return os.environ.get(names[0], ""), os.environ.get(names[1], "")

    @property
    def has_credentials(self) -> bool:
        return bool(all(self.user) or os.environ.get("MLFLOW_TRACKING_TOKEN"))

    def ask(
        self,
        path: str,
        *,
        user: tuple[str, str] | None = None,
        body: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        follows: bool = False,
    ) -> Reply:
        """Ask the server, as nobody unless ``user`` says who; a page where people log in is no answer."""
        sent = {"Content-Type": "application/json", **(headers or {})}
        if user:
            sent["Authorization"] = "Basic " + base64.b64encode(":".join(user).encode()).decode()
        return ask(
            f"{public_url(self.uri)}{path}",
            Limits(_MOST_BYTES, mlflow_patience()[0]),
            headers=sent,
            body=None if body is None else json.dumps(body).encode(),
            context=self._trusted,
            follows=follows,
        )

    @cached_property
    def _trusted(self) -> ssl.SSLContext | None:
        """Whom MLflow's client trusts, too."""
        import certifi

        if self.parts.scheme != "https":
            return None
        if _skips_certificates():  # as the steps do; it is a finding
            trusting = ssl.create_default_context()
            trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
            return trusting
        names = ("MLFLOW_TRACKING_SERVER_CERT_PATH", "REQUESTS_CA_BUNDLE")
        place = next((os.environ[name] for name in names if os.environ.get(name)), certifi.where())
        if Path(place).is_dir():
            return ssl.create_default_context(capath=place)
        return ssl.create_default_context(cafile=place)


def _client(server: _Server) -> Iterator[Finding]:
    """Look at how the steps ask: encrypted, and as whom."""
    if server.parts.scheme == "http" and not server.is_local:
        yield Finding("mlflow", "warning", f"{redacted(server.uri)} is not encrypted", "put it behind https")
    if server.parts.scheme == "https" and _skips_certificates():
        remedy = "unset MLFLOW_TRACKING_INSECURE_TLS; MLFLOW_TRACKING_SERVER_CERT_PATH names a certificate"
        yield Finding("mlflow", "failed", "the server need not show who it is", remedy)
    if server.parts.password:
        remedy = "use MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        yield Finding("mlflow", "warning", "MLFLOW_TRACKING_URI has a password in it", remedy)
    name, password = server.user
    if password and (password in (name, _ADMIN[1]) or len(password) < _SHORTEST_PASSWORD):
        remedy = f"give {name} another one, of {_SHORTEST_PASSWORD} characters or more"
        yield Finding("mlflow", "failed", "the steps' password is one that is guessed first", remedy)
    if not server.is_local and not server.has_credentials:
        remedy = "start the server with --app-name basic-auth, or behind a proxy that asks who it is"
        yield Finding("mlflow", "warning", "no credentials for a server that is not on this machine", remedy)


def _skips_certificates() -> bool:
    return os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1")


def _version(server: _Server) -> Iterator[Finding]:
    least, answer = LEAST["mlflow"], server.ask("/version", user=server.user if server.user[0] else None)
    version = answer.content.decode(errors="replace").strip() if answer.status == HTTPStatus.OK else ""
    if _is_version(version) and is_older(version, least):
        remedy = f"it has known holes: install {least} or newer on the server's machine"
        yield Finding("mlflow", "failed", f"the server is MLflow {version}", remedy)
    elif _is_version(version):
        yield Finding("mlflow", "ok", f"the server is MLflow {version}")


_RUNS = "/api/2.0/mlflow/experiments/search?max_results=1"


def _browsers(server: _Server) -> Iterator[Finding]:
    """Look at what pages of other sites may ask in somebody's browser."""
    usual, strange = server.ask(_RUNS), server.ask(_RUNS, headers={"Host": _STRANGER})
    if strange.status == usual.status and usual.status in (HTTPStatus.OK, HTTPStatus.UNAUTHORIZED):
        remedy = "start it with --allowed-hosts and its own names: another site's name may stand for it"
        yield Finding("mlflow", "warning", "the server answers to any name (Host)", remedy)
    site = f"https://{_STRANGER}"
    allowed = {
        name.lower(): value for name, value in server.ask(_RUNS, headers={"Origin": site}).headers.items()
    }
    if allowed.get("access-control-allow-origin") in ("*", site):
        remedy = "start it with --cors-allowed-origins and the sites that need it, or without"
        yield Finding("mlflow", "failed", "pages of any site may read the server's answers (CORS)", remedy)


def _strangers(server: _Server) -> Iterator[Finding]:
    """Look at what somebody may do who does not log in."""
    if _lists(server.ask(_RUNS), "experiments"):
        remedy = "start it with --app-name basic-auth: who reaches it may change runs and move champions"
        yield Finding("mlflow", "failed", "the server answers without asking who it is", remedy)
    else:
        yield Finding("mlflow", "ok", "the server asks who it is")
    if _lists(server.ask("/api/2.0/mlflow-artifacts/artifacts?path="), "files"):
        remedy = "have its log-in, or the proxy's, hold for /api/2.0/mlflow-artifacts, too"
        yield Finding("mlflow", "failed", "anybody may read and write the artifacts", remedy)
    if isinstance(_object(server.ask("/gateway/mlflow/v1/models")).get("data"), list):
        remedy = "set MLFLOW_ENABLE_AI_GATEWAY=false for the server, or have /gateway ask who it is"
        yield Finding("mlflow", "failed", "anybody may use the server's language models (gateway)", remedy)


def _users(server: _Server) -> Iterator[Finding]:
    """Look at what those may do who log in."""
    user = server.user if all(server.user) else None
    # Without its parameters no job is made; MLflow looks for them after it has looked whether it runs jobs.
    job = server.ask("/ajax-api/3.0/jobs/", user=user, body={"job_name": "invoke_scorer", "params": {}})
    if "Missing required parameters" in str(_object(job, HTTPStatus.BAD_REQUEST).get("detail")):
        remedy = (
            "set MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false for the server: modelmill needs none of its jobs"
        )
        yield Finding("mlflow", "warning", "the server runs jobs for whoever may ask it", remedy)
    asked = server.ask(_RUNS).status == HTTPStatus.UNAUTHORIZED
    if asked and server.ask(_RUNS, user=_ADMIN).status == HTTPStatus.OK:
        remedy = "set MLFLOW_AUTH_ADMIN_PASSWORD for the server and start it anew"
        yield Finding("mlflow", "failed", "its administrator has the password that MLflow came with", remedy)
    if not asked or user is None:
        return
    seen = _object(server.ask(f"/api/2.0/mlflow/users/get?username={quote(user[0])}", user=user))
    if isinstance(seen.get("user"), dict) and seen["user"].get("is_admin") is True:
        remedy = "make a user for the steps: who reads an administrator's password may change all models"
        yield Finding("mlflow", "warning", "the steps log in as an administrator", remedy)
    elif _may_change_what_is_nobodys(server, user):
        remedy = "set default_permission = READ, or NO_PERMISSIONS, where MLFLOW_AUTH_CONFIG_PATH says"
        yield Finding("mlflow", "failed", "whoever logs in may change what others have made", remedy)


def _may_change_what_is_nobodys(server: _Server, user: tuple[str, str]) -> bool:
    """Return whether a user may change the experiment 0, on which nobody has rights but by default.

    Without a key no tag is set; MLflow looks for it after it has looked whether the user may set one.
    """
    answer = server.ask(
        "/api/2.0/mlflow/experiments/set-experiment-tag", user=user, body={"experiment_id": "0"}
    )
    return _object(answer, HTTPStatus.BAD_REQUEST).get("error_code") == "INVALID_PARAMETER_VALUE"


def _clock(answer: Reply, now: float) -> Iterator[Finding]:
    date = {name.lower(): value for name, value in answer.headers.items()}.get("date")
    if not date:
        return
    ahead = now - parsedate_to_datetime(date).timestamp()
    # The header has whole seconds, cut off.
    if -_MOST_CLOCK_SECONDS <= ahead <= _MOST_CLOCK_SECONDS + 1:
        yield Finding("clock", "ok", "as MLflow's")
    else:
        yield Finding(
            "clock", "warning", f"{ahead:+.0f} s beside MLflow's", "let NTP set both machines' clocks"
        )


def _is_version(found: str) -> bool:
    with contextlib.suppress(InvalidVersion):
        return bool(Version(found))
    return False


def _lists(answer: Reply, what: str) -> bool:
    """Return whether MLflow lists something, be it that there is none: then its object is empty."""
    return what in _object(answer) or (answer.status == HTTPStatus.OK and answer.content.strip() == b"{}")


def _object(answer: Reply, status: HTTPStatus = HTTPStatus.OK) -> dict[str, Any]:
    """Return the JSON object of an answer of MLflow's; empty: it is none, such as a page to log in."""
    with contextlib.suppress(ValueError, RecursionError):
        found = json.loads(answer.content)
        if answer.status == status and isinstance(found, dict):
            return found
    return {}
