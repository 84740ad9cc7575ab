"""The doctor finds what is wrong with a deployment, says what to do, and shows no secrets."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from modelmill.cli.doctor import examine
from modelmill.cli.findings import Finding, is_older
from modelmill.cli.main import app
from modelmill.cli.sbom import bill_of_materials
from modelmill.registry import ledger
from modelmill.settings import Settings


def found(settings: Settings, check: str) -> list[Finding]:
    return [one for one in examine(settings) if one.check == check]


@contextlib.contextmanager
def served(
    answers: Mapping[str, bytes], *, status: int = 200, seconds_late: int = 0, user: str | None = None
) -> Iterator[str]:
    """Serve texts by path, others under ``*``, to anybody.

    :param answers: bodies.
    :param status: of the others.
    :param seconds_late: how late the clock is.
    :param user: what has to be sent as Authorization to get the others; None: nothing.
    :yield: the URL.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asks_who = self.path not in (*answers, "/health") and user is not None
            refused = asks_who and self.headers["authorization"] != user
            self.send_response(401 if refused else 200 if self.path in answers else status)
            self.send_header("location", "/login")
            self.end_headers()
            self.wfile.write(answers.get(self.path, answers["*"]))

        def date_time_string(self, timestamp: float | None = None) -> str:
            return super().date_time_string(time.time() - seconds_late)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.2", 0), Handler)  # loopback, and no name of this machine
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.2:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def late_server() -> Iterator[str]:
    """An old MLflow's answers, from a clock that is a minute late."""
    with served({"/version": b"3.9.0", "*": b"{}"}, seconds_late=60) as url:
        yield url


def test_a_sound_deployment_has_no_failures(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_HOME", str(settings.home))
    result = CliRunner().invoke(app, ["doctor", "--json"], catch_exceptions=False)
    findings = json.loads(result.output)
    mine = [one for one in findings if one["check"] != "secrets"]  # of this machine, not of the deployment
    assert {one["verdict"] for one in mine} <= {"ok", "warning"}
    assert {one["check"] for one in findings} >= {
        "versions",
        "home",
        "ledger",
        "mlflow",
        "secrets",
        "signing",
    }


def test_what_is_wrong_is_named_with_a_remedy(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.home.mkdir()
    settings.home.chmod(0o777)
    (settings.home / "airflow.cfg").write_text("fernet_key = x")
    (settings.home / "airflow.cfg").chmod(0o644)
    monkeypatch.setenv("AIRFLOW_HOME", str(settings.home))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://bob:canary-7f3a9@127.0.0.1:9")
    monkeypatch.setenv("MODELMILL_TRUSTED_KEYS", str(settings.home / "none.pem"))
    result = CliRunner().invoke(app, ["doctor"], catch_exceptions=False)
    assert result.exit_code == 2
    said = result.output
    assert f"everybody may write {settings.home}; chmod o-w" in said
    assert f"everybody may read {settings.home}/airflow.cfg; chmod 600" in said
    assert "MLFLOW_TRACKING_URI has a password in it" in said
    assert "start it, or set MLFLOW_TRACKING_URI" in said
    assert f"no key at {settings.home}/none.pem" in said
    assert "canary" not in said


def test_a_damaged_ledger_and_a_home_that_is_a_file_are_found(settings: Settings, tmp_path: Path) -> None:
    ledger.append(
        settings,
        "topics",
        lambda head: ledger.Entry(
            action="refuse", model="topics", from_version=None, to_version=None, digest="d", step_key="k"
        ),
        step_key="k",
        moves_alias=False,
    )
    assert found(settings, "ledger")[0].found.endswith("1 rows of 1 models, all as written")
    (file,) = Path(settings.ledger).glob("*.parquet")
    file.write_bytes(file.read_bytes()[:-1])
    assert found(settings, "ledger")[0].verdict == "failed"
    shutil.rmtree(settings.home)
    settings.home.write_text("a file")
    assert found(settings, "home")[0].verdict == "failed"


@pytest.mark.parametrize("damage", ["none", "cut", "a page", "garbage"])
def test_a_damaged_database_of_mlflow_is_found(
    damage: str, settings: Settings, mlflow_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, file = mlflow_database.read_bytes(), tmp_path / "damaged.db"
    changed = {
        "none": content,
        "cut": content[: len(content) // 2],
        "a page": content[:4096] + bytes(4096) + content[8192:],
        "garbage": b"x" * 5000,
    }
    file.write_bytes(changed[damage])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{file}")
    (one,) = found(Settings.from_environment(), "mlflow")
    assert one.verdict == ("ok" if damage == "none" else "failed"), one
    assert file.read_bytes() == changed[damage]


def test_clocks_that_differ_are_found(
    settings: Settings, late_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", late_server)
    (finding,) = found(Settings.from_environment(), "clock")
    assert finding.verdict == "warning"
    assert finding.found.startswith(("+60", "+61"))


def test_an_old_server_and_one_that_lets_everybody_in_are_found(
    settings: Settings, late_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", late_server.replace("//", "//bob:canary-7f3a9@"))
    said = {one.found: one.verdict for one in found(Settings.from_environment(), "mlflow")}
    assert said["the server is MLflow 3.9.0"] == "failed"
    assert said["the server answers without asking who it is"] == "failed"
    assert said["MLFLOW_TRACKING_URI has a password in it"] == "warning"
    assert "canary" not in str(said)


@pytest.mark.parametrize("status", [200, 302])
def test_a_page_that_asks_who_somebody_is_is_not_mlflow(
    settings: Settings, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served({"/health": b"OK", "*": b"<html>login</html>"}, status=status) as url:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        said = {one.found: one.verdict for one in found(Settings.from_environment(), "mlflow")}
    assert said.pop("the server asks who it is") == "ok"
    assert not [each for each in said if "html" in each or "without asking" in each]


def test_an_administrator_with_the_password_that_mlflow_came_with(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow takes it no longer from 3.17 on: so this is no MLflow."""
    first = "Basic " + base64.b64encode(b"admin:password1234").decode()
    for user, said in ((first, True), ("Basic another", False)):
        with served({"*": b"{}"}, user=user) as url:
            monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
            texts = [one.found for one in found(Settings.from_environment(), "mlflow")]
        assert ("its administrator has the password that MLflow came with" in texts) is said
        assert "the server asks who it is" in texts


@pytest.mark.parametrize(
    ("name", "password", "is_guessed"),
    [
        *(("steps", "password1234", True), ("steps-of-a-pipeline", "steps-of-a-pipeline", True)),
        *(("steps", "short", True), ("steps", "tired-otter-99", False)),
    ],
)
def test_passwords_that_are_guessed_and_servers_that_need_not_show_who_they_are(
    settings: Settings, name: str, password: str, is_guessed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", name)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
    monkeypatch.setenv("MLFLOW_TRACKING_INSECURE_TLS", "true" if is_guessed else "false")
    said = {one.found: one.verdict for one in found(Settings.from_environment(), "mlflow")}
    assert ("the steps' password is one that is guessed first" in said) is is_guessed
    assert ("the server need not show who it is" in said) is is_guessed


def test_the_bill_of_materials_is_complete_and_the_same_each_time() -> None:
    bill = bill_of_materials()
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    components = {one["name"]: one for one in bill["components"]}
    assert components["pydantic"]["purl"] == f"pkg:pypi/pydantic@{components['pydantic']['version']}"
    needs = {one["ref"]: one["dependsOn"] for one in bill["dependencies"]}
    assert components["pydantic-core"]["bom-ref"] in needs[components["pydantic"]["bom-ref"]]
    known = {one["bom-ref"] for one in bill["components"]}
    assert set(needs) == known
    assert all(set(listed) <= known for listed in needs.values())
    assert bill == bill_of_materials()


@pytest.mark.parametrize(
    ("found", "least", "older"),
    [
        ("3.3.2", "3.3.2", False),
        ("3.3.0rc1", "3.3.0", True),
        ("3.3.0rc1", "3.2.9", False),
        ("2.0.0.dev1", "2.0.0", True),
        ("3.17.10", "3.17.2", False),
        ("1.23.0.post1", "1.23", False),
        ("2.13.0+cpu", "2.13", False),
        ("2.13rc2+cpu", "2.13", True),
        ("1!1.0", "5.23", False),
        ("unknown", "1.0", True),
    ],
)
def test_versions_are_ordered_as_pep_440_has_it(found: str, least: str, older: bool) -> None:
    assert is_older(found, least) is older
