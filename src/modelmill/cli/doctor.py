"""``modelmill doctor``: whether this machine can run the steps, and the deployment is set up safely."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal
from urllib.parse import urlsplit

import typer
from packaging.version import InvalidVersion, Version

from modelmill.errors import ConfigError, ModelmillError
from modelmill.redaction import redacted
from modelmill.settings import Settings, is_served, mlflow_patience
from modelmill.system.disk import make_writable

if TYPE_CHECKING:
    import requests

Verdict = Literal["ok", "warning", "failed"]

_LEAST = {
    "apache-airflow-core": "3.3.2",
    "deltalake": "1.6",
    "mlflow": "3.17.2",
    "onnx": "1.23",
    "torch": "2.13",
    "transformers": "5.23",
}
"""Older ones run code that a model brings, read files outside its folder, or let anybody in."""
_LEAST_DISK_GB = 5.0
_LOCAL = ("localhost", "127.0.0.1", "::1")
_MOST_CLOCK_SECONDS = 5.0
"""The ledger's rule for half-done moves allows for a few seconds between machines."""


@dataclass(frozen=True)
class Finding:
    """What one check has found."""

    check: str
    verdict: Verdict
    found: str
    remedy: str = ""


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="As a JSON list.")] = False,
    spark: Annotated[bool, typer.Option(help="Start the Spark engine too; takes seconds.")] = False,
) -> None:
    """Check versions, folders, MLflow, the ledger, the clock and who may read secrets; says what to do.

    Ends with 2 if anything has failed; warnings alone end with 0.
    """
    findings = list(examine(Settings.from_environment(), spark=spark))
    if as_json:
        typer.echo(json.dumps([one.__dict__ for one in findings], indent=2))
    else:
        for one in findings:
            remedy = f"; {one.remedy}" if one.remedy else ""
            typer.echo(f"{one.verdict:8} {one.check:12} {one.found}{remedy}")
    if any(one.verdict == "failed" for one in findings):
        raise typer.Exit(ConfigError("").exit_status)


def examine(settings: Settings, *, spark: bool = False) -> Iterator[Finding]:
    """Check a deployment, as far as this process sees it.

    :param settings: the deployment.
    :param spark: whether the Spark engine is started.
    :yield: findings, in the order of the checks; one that cannot be made is a finding too.
    """
    checks: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("versions", _versions),
        ("home", lambda: _home(settings)),
        ("ledger", lambda: _ledger(settings)),
        ("mlflow", lambda: _mlflow(settings)),
        ("secrets", lambda: _secrets(settings)),
        ("signing", lambda: _signing(settings)),
        *([("spark", lambda: _spark(settings))] if spark else []),
    ]
    for name, check in checks:
        try:
            yield from check()
        except ModelmillError as error:
            yield Finding(name, "failed", str(error))
        except Exception as error:  # a check that breaks is a finding
            yield Finding(name, "failed", redacted(f"{type(error).__name__}: {error}"))


def _versions() -> Iterator[Finding]:
    for name, least in _LEAST.items():
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # not every machine needs every extra
        if _is_older(found, least):
            yield Finding(
                "versions", "failed", f"{name} {found}", f"it has known holes: install {least} or newer"
            )
        else:
            yield Finding("versions", "ok", f"{name} {found}")


def _is_older(found: str, least: str) -> bool:
    """Compare versions as PEP 440 orders them: ``3.3.2rc1`` and ``3.3.2.dev1`` come before ``3.3.2``.

    A local version, such as ``2.13.0+cpu``, is the one that it was built of; what is no version is older.
    """
    try:
        return Version(Version(found).public) < Version(least)
    except InvalidVersion:
        return True


def _home(settings: Settings) -> Iterator[Finding]:
    home = make_writable(settings.home)
    yield Finding("home", "ok", f"{home} is writable")
    if home.stat().st_mode & stat.S_IWOTH:
        remedy = f"chmod o-w {home}: who may write there decides what is promoted"
        yield Finding("home", "failed", f"everybody may write {home}", remedy)
    free = shutil.disk_usage(home).free / 1e9
    if free < _LEAST_DISK_GB:
        yield Finding("home", "warning", f"{free:.1f} GB free", "make room: modelmill gc lists leftovers")
    else:
        yield Finding("home", "ok", f"{free:,.0f} GB free")


def _ledger(settings: Settings) -> Iterator[Finding]:
    from modelmill.registry.ledger import entries

    rows = entries(settings)  # raises if one is missing or was changed
    models = len({row.model for row in rows})
    yield Finding(
        "ledger", "ok", f"{redacted(settings.ledger)}: {len(rows)} rows of {models} models, all as written"
    )


def _mlflow(settings: Settings) -> Iterator[Finding]:
    uri = settings.tracking_uri
    if not is_served(uri):
        yield Finding("mlflow", "ok", f"{redacted(uri)}, without a server")
        return
    server = urlsplit(uri)
    local = server.hostname in _LOCAL
    if server.scheme == "http" and not local:
        yield Finding("mlflow", "warning", f"{redacted(uri)} is not encrypted", "put it behind https")
    if server.password:
        remedy = "use MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        yield Finding("mlflow", "warning", "MLFLOW_TRACKING_URI has a password in it", remedy)
    if not local and not server.username and not _has_credentials():
        remedy = "start the server with --app-name basic-auth, or behind a proxy that asks who it is"
        yield Finding("mlflow", "warning", "no credentials for a server that is not on this machine", remedy)
    yield from _mlflow_answers(uri)


def _has_credentials() -> bool:
    return any(os.environ.get(name) for name in ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_PASSWORD"))


def _mlflow_answers(uri: str) -> Iterator[Finding]:
    import requests

    began = time.time()
    try:
        answer = requests.get(f"{uri.rstrip('/')}/health", timeout=mlflow_patience()[0])
        answer.raise_for_status()
    except requests.RequestException as error:
        reason = redacted(f"{redacted(uri)}: {type(error).__name__}: {error}")[:300]
        yield Finding("mlflow", "failed", reason, "start it, or set MLFLOW_TRACKING_URI")
        return
    yield Finding("mlflow", "ok", f"{redacted(uri)} answers in {time.time() - began:.2f} s")
    yield from _mlflow_server(uri)
    if "Date" in answer.headers:
        ahead = (began + time.time()) / 2 - parsedate_to_datetime(answer.headers["Date"]).timestamp()
        # The header has whole seconds, cut off.
        if not -_MOST_CLOCK_SECONDS <= ahead <= _MOST_CLOCK_SECONDS + 1:
            yield Finding(
                "clock", "warning", f"{ahead:+.0f} s beside MLflow's", "let NTP set both machines' clocks"
            )
        else:
            yield Finding("clock", "ok", "as MLflow's")


def _mlflow_server(uri: str) -> Iterator[Finding]:
    """Look at what the server is, and whether it asks who somebody is."""
    import requests

    parts = urlsplit(uri)
    place = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/")

    def asked(path: str, user: tuple[str, str] | None) -> requests.Response:
        # Without credentials of its own, requests would take those of a file in the user's home.
        return requests.get(
            f"{place}{path}",
            auth=user or (lambda request: request),
            timeout=mlflow_patience()[0],
            allow_redirects=False,  # to a page where people log in: it is no answer of MLflow's
        )

    known = parts.username or os.environ.get("MLFLOW_TRACKING_USERNAME", "")
    password = parts.password or os.environ.get("MLFLOW_TRACKING_PASSWORD", "")
    least, answer = _LEAST["mlflow"], asked("/version", (known, password) if known else None)
    version = answer.text.strip() if answer.status_code == HTTPStatus.OK else ""
    if _is_version(version) and _is_older(version, least):
        remedy = f"it has known holes: install {least} or newer on the server's machine"
        yield Finding("mlflow", "failed", f"the server is MLflow {version}", remedy)
    elif _is_version(version):
        yield Finding("mlflow", "ok", f"the server is MLflow {version}")
    if parts.hostname in _LOCAL:
        return
    if _is_json(asked("/api/2.0/mlflow/experiments/search?max_results=1", None)):
        remedy = "start it with --app-name basic-auth: who reaches it may change runs and move champions"
        yield Finding("mlflow", "failed", "the server answers without asking who it is", remedy)
    else:
        yield Finding("mlflow", "ok", "the server asks who it is")


def _is_version(found: str) -> bool:
    with contextlib.suppress(InvalidVersion):
        return bool(Version(found))
    return False


def _is_json(answer: requests.Response) -> bool:
    """Return whether MLflow has answered, and not a page in front of it that asks who somebody is."""
    with contextlib.suppress(ValueError):
        return answer.status_code == HTTPStatus.OK and isinstance(answer.json(), dict)
    return False


def _secrets(settings: Settings) -> Iterator[Finding]:
    """Look for files with secrets that everybody on this machine may read."""
    files = [Path(settings.signing_key)] if settings.signing_key else []
    airflow = Path(os.environ.get("AIRFLOW_HOME") or Path.home() / "airflow")
    files += [airflow / "airflow.cfg", airflow / "simple_auth_manager_passwords.json.generated"]
    files += [Path.home() / ".aws" / "credentials", Path("docker") / ".env", Path(".env")]
    found = [path for path in files if path.is_file()]
    for path in found:
        if path.stat().st_mode & (stat.S_IROTH | stat.S_IRGRP):
            who = "everybody" if path.stat().st_mode & stat.S_IROTH else "its group"
            yield Finding(
                "secrets",
                "failed" if who == "everybody" else "warning",
                f"{who} may read {path}",
                f"chmod 600 {path}",
            )
        else:
            yield Finding("secrets", "ok", f"only its owner may read {path}")
    if not found:
        yield Finding("secrets", "ok", "no files with secrets in their usual places")


def _signing(settings: Settings) -> Iterator[Finding]:
    if settings.signing_key and not Path(settings.signing_key).is_file():
        yield Finding("signing", "failed", f"no key at {settings.signing_key}", "set MODELMILL_SIGNING_KEY")
    missing = [path for path in settings.trusted_keys if not Path(path).is_file()]
    for path in missing:
        yield Finding("signing", "failed", f"no key at {path}", "set MODELMILL_TRUSTED_KEYS")
    if settings.signing_key and not settings.trusted_keys:
        remedy = "set MODELMILL_TRUSTED_KEYS: without, nobody looks at the signatures"
        yield Finding("signing", "warning", "models are signed, and signatures are not asked for", remedy)
    elif not settings.trusted_keys:
        yield Finding("signing", "ok", "signatures are not asked for")
    elif not missing:
        yield Finding(
            "signing", "ok", f"models need the signature of one of {len(settings.trusted_keys)} keys"
        )


def _spark(settings: Settings) -> Iterator[Finding]:
    from modelmill.spark import session

    began = time.monotonic()
    with session(settings) as spark:
        count = spark.range(10).count()
    engine = redacted(settings.spark_remote or "the embedded engine")
    if count == 10:
        yield Finding("spark", "ok", f"{engine} counts in {time.monotonic() - began:.1f} s")
    else:
        yield Finding("spark", "failed", f"{engine} counts {count} of 10 rows", "see its log")
