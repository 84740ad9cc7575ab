"""Real MLflow servers that are set up badly, and well: the doctor finds each weakness, and no other."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from demo.servers import LocalMlflow
from demo.servers.mlflow_server import AUTHENTICATION

from modelmill.cli.doctor import examine
from modelmill.cli.findings import LEAST
from modelmill.registry.tracking import make_tracking_database
from modelmill.settings import Settings

HERE = "127.0.0.2"
"""Loopback, and no name of this machine that the doctor knows."""
STEPS = ("steps", secrets.token_urlsafe(24))
GUESSED = ("guest", "password1234")
ADMIN = secrets.token_urlsafe(24)


class Weak(LocalMlflow):
    """A server with settings of its own, at an address that is not taken for this machine.

    :param home: its folder.
    :param flags: beside the usual ones.
    :param variables: of its environment.
    :param permission: of everybody who logs in; None: nobody has to.
    """

    def __init__(
        self, home: Path, flags: Sequence[str], variables: dict[str, str], permission: str | None = None
    ) -> None:
        super().__init__(home, environment=variables)
        self.flags = [flag.format(place=f"{HERE}:{self.port}") for flag in flags]
        if permission is not None:
            self.flags += ["--app-name", "basic-auth"]
            self.home.mkdir(parents=True)
            config = AUTHENTICATION.format(database=f"sqlite:///{self.home}/users.db")
            (self.home / "users.ini").write_text(config.replace("READ", permission))
            self._given |= {
                "MLFLOW_AUTH_CONFIG_PATH": str(self.home / "users.ini"),
                "MLFLOW_AUTH_ADMIN_PASSWORD": ADMIN,
                "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_urlsafe(24),
            }
            self._admin = ("admin", ADMIN)

    @property
    def url(self) -> str:
        return f"http://{HERE}:{self.port}"

    def command(self) -> list[str]:
        return [HERE if one == "127.0.0.1" else one for one in super().command()] + self.flags


OPEN = (
    ("--allowed-hosts", "*", "--cors-allowed-origins", "*"),
    {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "true",
        "MLFLOW_SERVER_JOB_EXECUTION_ENGINE": "executor",  # the usual one has seven processes
        "MLFLOW_ENABLE_AI_GATEWAY": "true",
    },
)
CLOSED = (("--allowed-hosts", "{place}"), {"MLFLOW_ENABLE_AI_GATEWAY": "false"})


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Weak]]:
    """Three servers, started together: one open to all, one whose users may do everything, a sound one."""
    home = tmp_path_factory.mktemp("servers")
    made = {
        "open": Weak(home / "open", *OPEN),
        "shared": Weak(home / "shared", *CLOSED, permission="EDIT"),
        "sound": Weak(home / "sound", *CLOSED, permission="READ"),
    }
    make_tracking_database(home / "mlflow.db", artifact_root="mlflow-artifacts:/")
    with ExitStack() as running:
        for server in made.values():
            server.home.mkdir(exist_ok=True)
            shutil.copy(home / "mlflow.db", server.home)
            running.callback(server.stop)
            server.start()  # beside the others: each takes ten seconds of a core
        for server in made.values():
            server.wait_ready(timeout=400)
        for name, user in (("shared", GUESSED), ("sound", STEPS)):
            made[name].make_user(*user)
        yield made


@pytest.fixture
def said(
    servers: dict[str, Weak], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> dict[str, str]:
    """Return what the doctor says of a server, asked as somebody: texts that are not ok, with verdicts."""
    name, user, in_uri = request.param
    for variable in ("USERNAME", "PASSWORD", "TOKEN", "INSECURE_TLS"):
        monkeypatch.delenv(f"MLFLOW_TRACKING_{variable}", raising=False)
    url = servers[name].url
    if in_uri:
        url = url.replace("://", "://{}:{}@".format(*user))
    elif user:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", user[0])
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", user[1])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
    monkeypatch.setenv("MODELMILL_HOME", str(tmp_path))
    findings = [one for one in examine(Settings.from_environment()) if one.check == "mlflow"]
    assert all(one.remedy for one in findings if one.verdict != "ok")
    assert not any(user[1] in str(one) for one in findings if user)
    return {
        one.found.replace(servers[name].url, "it"): one.verdict for one in findings if one.verdict != "ok"
    }


UNENCRYPTED = {"it is not encrypted": "warning"}


@pytest.mark.parametrize("said", [("open", (), False)], indirect=True)
def test_a_server_that_is_open_to_all(said: dict[str, str]) -> None:
    assert said == UNENCRYPTED | {
        "no credentials for a server that is not on this machine": "warning",
        "the server answers to any name (Host)": "warning",
        "pages of any site may read the server's answers (CORS)": "failed",
        "the server answers without asking who it is": "failed",
        "anybody may read and write the artifacts": "failed",
        "anybody may use the server's language models (gateway)": "failed",
        "the server runs jobs for whoever may ask it": "warning",
    }


@pytest.mark.parametrize("said", [("shared", GUESSED, True)], indirect=True)
def test_a_server_whose_users_may_do_everything(said: dict[str, str]) -> None:
    said = {text.replace("***@", ""): verdict for text, verdict in said.items()}
    unencrypted = [text for text in said if text.endswith("is not encrypted")]
    assert len(unencrypted) == 1
    assert {text: said[text] for text in said if text not in unencrypted} == {
        "MLFLOW_TRACKING_URI has a password in it": "warning",
        "the steps' password is one that is guessed first": "failed",
        "whoever logs in may change what others have made": "failed",
    }


@pytest.mark.parametrize("said", [("sound", ("admin", ADMIN), False)], indirect=True)
def test_steps_that_log_in_as_an_administrator(said: dict[str, str]) -> None:
    assert said == UNENCRYPTED | {"the steps log in as an administrator": "warning"}


@pytest.mark.parametrize("said", [("sound", STEPS, False)], indirect=True)
def test_nothing_else_is_wrong_with_a_sound_server(said: dict[str, str]) -> None:
    assert said == UNENCRYPTED


def test_a_server_with_known_holes(
    servers: dict[str, Weak], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own version, as if the next one had mended something."""
    version = httpx.get(f"{servers['sound'].url}/version", auth=STEPS, timeout=120).text
    monkeypatch.setitem(LEAST, "mlflow", f"{version}.post1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", servers["sound"].url)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", STEPS[0])
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", STEPS[1])
    monkeypatch.setenv("MODELMILL_HOME", str(tmp_path))
    findings = {one.found: one.verdict for one in examine(Settings.from_environment())}
    assert findings[f"the server is MLflow {version}"] == "failed"


def test_nothing_is_changed_by_looking(servers: dict[str, Weak]) -> None:
    """After all of the above: no tag, no job, no user more than was made."""
    auth = ("admin", ADMIN)
    for name in ("open", "shared", "sound"):
        user = auth if name != "open" else None
        with httpx.Client(base_url=servers[name].url, auth=user, timeout=120) as client:
            found = client.get("/api/2.0/mlflow/experiments/get?experiment_id=0").json()["experiment"]
            assert not found.get("tags")
            jobs = client.post("/ajax-api/3.0/jobs/search", json={})
            assert jobs.json() == {"jobs": []}
