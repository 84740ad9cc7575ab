"""The canvas in a real browser, in a real Airflow with a table to learn from and a tiny large model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from demo.servers import LocalAirflow
from playwright.sync_api import Browser, Page, expect, sync_playwright

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "plugins" / "modelmill_plugin" / "static" / "canvas.js"
CHROMIUM = shutil.which("chromium")
START_SECONDS = 300.0
AXE = ROOT / "plugins" / "canvas" / "node_modules" / "axe-core" / "axe.min.js"
SERIOUS = ("serious", "critical")
PATIENCE = 60_000
"""Milliseconds that the browser waits for something to appear: the machine may be busy."""
PASSWORDS = {
    "admin": "a password of these tests",
    "looker": "another password of these tests",
    "second": "the second person's password",
}
SMALL = """
pipeline: small
steps:
  raw: {component: delta_table, config: {uri: "${data}/tickets"}}

  # the labels are reviewed
  dataset:
    component: build_dataset
    inputs: {table: raw.table}
    config: {text: message, labels: [desk]}
params:
  data: {description: Folder of the tables}
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium; of the module, since an event loop runs in this thread until it is closed."""
    with sync_playwright() as playwright:
        expect.set_options(timeout=PATIENCE)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def home(airflow: LocalAirflow) -> Path:
    """The folder in which Airflow, MLflow and all tables of a deployment are."""
    return airflow.home.parent


@pytest.fixture(scope="module")
def pipelines(home: Path) -> Path:
    """The pipeline store, with one pipeline when a module begins."""
    folder = home / "pipelines"
    for path in folder.glob("*.yaml"):
        path.unlink()
    (folder / "small.yaml").write_text(SMALL)
    return folder


@pytest.fixture(scope="module")
def rules(home: Path) -> Path:
    """The rule sets' folder, empty when a module begins."""
    folder = home / "rules"
    for path in folder.glob("*.yaml"):
        path.unlink()
    return folder


@pytest.fixture(scope="session")
def start_airflow(
    tiny_base_model: Path, topic_rows: Callable[..., list[tuple[str, str]]]
) -> Callable[..., LocalAirflow]:
    """``start_airflow(home, tracking_uri, **more)``: Airflow with the canvas, a table and a large model."""
    if CHROMIUM is None:
        pytest.skip("there is no chromium; on Debian: apt-get install chromium")
    if not BUNDLE.exists():
        pytest.skip("the canvas is not built: ./run canvas")

    def start(home: Path, tracking_uri: str, **more: str) -> LocalAirflow:
        rows = topic_rows(160)
        table = pa.table(
            {
                "ticket": [f"T{number}" for number in range(len(rows))],
                "message": [f"{text} {number}" for number, (text, _) in enumerate(rows)],
                "desk": [topic for _, topic in rows],
            }
        )
        write_deltalake(str(home / "data" / "tickets"), table)
        environment = {
            "MLFLOW_TRACKING_URI": tracking_uri,
            "MODELMILL_HOME": str(home / "home"),
            "MODELMILL_PIPELINES": str(home / "pipelines"),
            "MODELMILL_PARAM_DATA": str(home / "data"),
            "MODELMILL_PARAM_RULES": str(home / "rules"),
            "MODELMILL_PARAM_BASE_MODEL": str(tiny_base_model),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin,looker:viewer,second:admin",
            **more,
        }
        for folder in ("airflow", "pipelines", "rules"):
            (home / folder).mkdir()
        (home / "airflow" / "passwords.json").write_text(json.dumps(PASSWORDS))
        return LocalAirflow(home / "airflow", ROOT / "dags", environment=environment)

    return start


@pytest.fixture(scope="package")
def airflow(
    tmp_path_factory: pytest.TempPathFactory,
    mlflow_database: Path,
    start_airflow: Callable[..., LocalAirflow],
) -> Iterator[LocalAirflow]:
    """One for all files of this folder, which a process runs: a start costs 50 s of CPU."""
    home = tmp_path_factory.mktemp("canvas")
    shutil.copy(mlflow_database, home / "mlflow.db")
    with start_airflow(home, f"sqlite:///{home}/mlflow.db") as server:
        server.wait_ready(timeout=START_SECONDS)
        yield server


@pytest.fixture(scope="module", autouse=True)
def _as_at_first(pipelines: Path, rules: Path) -> None:
    """No module sees what another has saved."""


@pytest.fixture(scope="module")
def signed_in(browser: Browser, airflow: LocalAirflow, home: Path) -> Path:
    """The browser's state after the user has logged in, as a person does."""
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(airflow.url)
    page.fill("input[name=username]", airflow.user)
    page.fill("input[name=password]", airflow.password)
    page.click("button[type=submit]")
    page.get_by_role("link", name="Dags", exact=True).wait_for()
    context.storage_state(path=home / "signed-in.json")
    context.close()
    return home / "signed-in.json"


@pytest.fixture
def serious() -> Callable[[Page], list[Any]]:
    """``serious(page)``: what axe finds on a page that keeps people from using it."""
    if not AXE.exists():
        pytest.skip("axe-core comes with the canvas's packages: ./run canvas")

    def found(page: Page) -> list[Any]:
        page.wait_for_timeout(500)  # colours fade in, and axe measures them
        page.add_script_tag(path=AXE)
        violations = page.evaluate("async () => (await axe.run('.mm-root')).violations")
        return [
            (
                item["id"],
                [node["html"][:160] for node in item["nodes"]][:3],
                item["nodes"][0]["failureSummary"],
            )
            for item in violations
            if item["impact"] in SERIOUS
        ]

    return found


@pytest.fixture(params=["light"])
def page(
    request: pytest.FixtureRequest, browser: Browser, airflow: LocalAirflow, signed_in: Path
) -> Iterator[Page]:
    """A page of a user who is logged in. An error that no code of the page has caught fails the test."""
    context = browser.new_context(
        base_url=airflow.url,
        storage_state=signed_in,
        viewport={"width": 1600, "height": 1000},
        color_scheme=request.param,
    )
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    context.close()
    assert errors == []
