"""The images and the compose file: well formed, pinned, without root, and in step with what tests start."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from demo.servers import LocalMlflow
from demo.servers.airflow_server import SERVERS, command
from demo.servers.mlflow_server import AUTHENTICATION
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from modelmill_operators.profiles import load_profiles

DOCKER = Path(__file__).parents[2] / "docker"
TOOLS = Path(sys.executable).parent
WORKERS = ("worker-cpu", "worker-gpu")
OWN_IMAGE = "modelmill-"


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
    return found


@pytest.fixture(scope="module")
def values() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DOCKER / "values.yaml").read_text())
    return found


def parts(given: list[str]) -> list[str]:
    """Split ``--option=value`` as ``--option value``."""
    return [part for item in given for part in item.split("=", 1)]


@pytest.mark.parametrize(
    "tool",
    [
        ["hadolint", DOCKER / "Dockerfile"],
        ["check-jsonschema", "--builtin-schema", "vendor.compose-spec", DOCKER / "compose.yaml"],
    ],
    ids=["hadolint", "compose schema"],
)
def test_files_are_well_formed(tool: list[str | Path]) -> None:
    done = subprocess.run([TOOLS / tool[0], *tool[1:]], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_containers_run_what_the_tests_run_as_processes(
    services: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    for name in (*SERVERS, *WORKERS):
        whole = command(name, python="python")
        _, _, *expected = whole
        assert services[name]["command"] == whole or services[name]["command"][: len(expected)] == expected, (
            name
        )
    for name in ("db-migrate", "profiles"):
        assert " ".join(command(name, python="python")) in services["init"]["command"][0]
    there = {"database": "postgresql+psycopg2://mlflow", "users": "postgresql+psycopg2://users"}
    options = LocalMlflow(tmp_path, artifacts="s3://models", **there).command()
    assert {part for part in options if part.startswith("--")} <= set(parts(services["mlflow"]["command"]))
    assert services["mlflow"]["command"][:2] == ["mlflow", "server"]
    drivers = re.findall(r"postgresql[^:]*(?=://)", (DOCKER / "compose.yaml").read_text())
    assert set(drivers) == {"postgresql+psycopg2"}, "SQLAlchemy 2.1 takes another driver by default"


def test_users_of_mlflow_are_kept_as_in_the_tests(services: dict[str, dict[str, Any]]) -> None:
    configs = yaml.safe_load((DOCKER / "compose.yaml").read_text())["configs"]
    here, there = ConfigParser(), ConfigParser()
    here.read_string(AUTHENTICATION)
    there.read_string(configs["mlflow-authentication"]["content"])
    assert {**here["mlflow"], "database_uri": ""} == {**there["mlflow"], "database_uri": ""}
    assert services["mlflow"]["environment"]["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    given = {one.partition("=")[0] for one in services["mlflow"]["command"]}
    assert given >= {"--allowed-hosts", "--app-name"}


def test_every_service_is_pinned_has_a_health_check_and_no_root(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        assert service["image"].startswith(OWN_IMAGE) or re.search(r":\d+\.\d+", service["image"]), name
        assert name == "init" or service["healthcheck"]["test"], name
        # The image of PostgreSQL itself leaves root.
        assert name == "postgres" or service["user"].partition(":")[0] not in ("", "0", "root"), name
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_every_image_is_pinned_and_ends_without_root() -> None:
    text = (DOCKER / "Dockerfile").read_text()
    for name, tag in re.findall(r"^ARG (PYTHON|NODE|SPARK)=(.*)$", text, re.MULTILINE):
        assert re.match(r"\d+\.\d+\.\d+", tag), name
    targets = re.split(r"^FROM ", text, flags=re.MULTILINE)[1:]
    names = {target.partition("\n")[0].split(" AS ")[1]: target for target in targets}
    assert {"airflow", "worker-cpu", "worker-gpu", "mlflow", "spark-job"} <= set(names)
    for name in ("airflow", "worker-cpu", "worker-gpu", "mlflow", "spark-job"):
        assert re.findall(r"^USER (\d+)$", names[name], re.MULTILINE)[-1] != "0", name
    for line in re.findall(r"^(?:RUN|ENV|\s+).*pip3? install.*", text, re.MULTILINE):
        hashed = "--require-hashes" in line or re.search(r"--no-deps /wheel/\S+$", line.rstrip("; \\"))
        assert hashed or "--constraint" in line or "torch>=" in line, line
    assert len(re.findall(r"--constraint /opt", text)) == 1  # of the index that has builds of its own


def test_locks_have_the_pinned_versions_and_a_hash_for_each() -> None:
    pinned = dict(_versions((DOCKER.parent / "constraints.txt").read_text()))
    locks = sorted((DOCKER / "locks").glob("*.txt"))
    assert [lock.stem for lock in locks] == ["airflow", "demo", "mlflow", "spark", "steps"]
    for lock in locks:
        entries = re.split(r"\n(?=\S)", lock.read_text().strip())
        assert len(entries) > 40, lock
        for entry in entries:
            ((name, version),) = _versions(entry)
            assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), f"{name} in {lock.name}"
            assert pinned.get(name, version) == version, f"{name} in {lock.name}: run scripts/lock.sh"


@pytest.mark.parametrize(
    ("lock", "extras"),
    [
        ("steps", "steps"),
        ("spark", "data,serve"),
        ("demo", "all"),
        ("airflow", "airflow,celery,data,kubernetes,lineage,metrics,track"),
    ],
)
def test_a_lock_has_all_that_its_extras_ask_for(lock: str, extras: str) -> None:
    text = (DOCKER / "locks" / f"{lock}.txt").read_text()
    locked = dict(_versions(text))
    project = tomllib.loads((DOCKER.parent / "pyproject.toml").read_text())["project"]
    wanted = [Requirement(f"modelmill[{extras}]")]
    seen = set[str]()
    while wanted:
        one = wanted.pop()
        if one.name == "modelmill":
            for extra in one.extras - seen:
                seen.add(extra)
                wanted += map(Requirement, project["optional-dependencies"][extra])
        else:
            version = locked[canonicalize_name(one.name)]
            assert version in one.specifier, f"{one} in {lock}.txt: run scripts/lock.sh"


def _versions(text: str) -> list[tuple[str, str]]:
    found = re.findall(r"^([\w.-]+)(?:\[[^]]*\])?==([^\s;]+)", text, re.MULTILINE)
    return [(canonicalize_name(name), version) for name, version in found]


def test_no_secret_has_a_default(services: dict[str, dict[str, Any]]) -> None:
    text = (DOCKER / "compose.yaml").read_text()
    for name in re.findall(r"^([A-Z_]+)=$", (DOCKER / "example.env").read_text(), re.MULTILINE):
        if name != "BASE_MODEL":
            assert f"${{{name}:?" in text, name
            assert f"${{{name}:-" not in text, name


def test_workers_listen_on_the_queues_of_the_profiles(
    services: dict[str, dict[str, Any]], values: dict[str, Any]
) -> None:
    queues = {profile.queue for profile in load_profiles(DOCKER / "profiles.yaml").values()}
    assert {services[name]["command"][4] for name in WORKERS} == queues
    assert {workers["queue"] for workers in values["workers"]["celery"]["sets"]} == queues
    assert services["scheduler"]["environment"]["AIRFLOW__OPERATORS__DEFAULT_QUEUE"] in queues
    assert values["config"]["operators"]["default_queue"] in queues
