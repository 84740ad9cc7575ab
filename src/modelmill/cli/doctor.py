"""``modelmill doctor``: whether this machine can run the steps, and the deployment is set up safely."""

from __future__ import annotations

import json
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from modelmill.cli.findings import LEAST, Finding, is_older
from modelmill.cli.mlflow_findings import examine_mlflow
from modelmill.errors import ConfigError, ModelmillError
from modelmill.redaction import redacted
from modelmill.settings import Settings
from modelmill.system.disk import make_writable

_LEAST_DISK_GB = 5.0


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
        ("mlflow", lambda: examine_mlflow(settings)),
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
    for name, least in LEAST.items():
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # not every machine needs every extra
        if is_older(found, least):
            yield Finding(
                "versions", "failed", f"{name} {found}", f"it has known holes: install {least} or newer"
            )
        else:
            yield Finding("versions", "ok", f"{name} {found}")


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
