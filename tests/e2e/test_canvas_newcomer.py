"""Somebody who sees the page for the first time: how many clicks from log-in to how good the model is."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from demo.samples import prepare
from demo.servers import LocalAirflow
from playwright.sync_api import Browser, Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.airflow]

RUN_MILLISECONDS = 1_500_000
CLICKS = 8
COUNT = """addEventListener('click', (event) => {
    if (!event.isTrusted) return;
    const before = JSON.parse(localStorage.getItem('clicks') ?? '[]');
    localStorage.setItem('clicks', JSON.stringify([...before, event.target.textContent.slice(0, 60)]));
}, true);"""


@pytest.fixture(scope="module", name="airflow")
def _airflow(
    tmp_path_factory: pytest.TempPathFactory,
    mlflow_database: Path,
    start_airflow: Callable[..., LocalAirflow],
) -> Iterator[LocalAirflow]:
    """One with a real large model: what comes of the one of the tests is refused by the gate."""
    home = tmp_path_factory.mktemp("newcomer")
    _, base_model = prepare(home)
    shutil.copy(mlflow_database, home / "mlflow.db")
    large = {"MODELMILL_PARAM_BASE_MODEL": str(base_model)}
    with start_airflow(home, f"sqlite:///{home}/mlflow.db", **large) as server:
        server.wait_ready(timeout=300)
        yield server


@pytest.fixture(name="newcomer")
def _newcomer(browser: Browser, airflow: LocalAirflow) -> Iterator[Page]:
    """A browser in which nobody has logged in yet; it counts clicks."""
    context = browser.new_context(base_url=airflow.url, viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.add_init_script(COUNT)
    yield page
    context.close()


@pytest.mark.timeout(2400)
@pytest.mark.skipif(
    not os.environ.get("MODELMILL_LONG_TESTS"), reason="minutes of training: set MODELMILL_LONG_TESTS"
)
def test_from_the_log_in_to_what_the_model_gets_wrong(
    newcomer: Page, airflow: LocalAirflow, pipelines: Path, tmp_path: Path
) -> None:
    page = newcomer
    for path in pipelines.glob("*.yaml"):
        path.unlink()
    page.goto("/")
    page.fill("input[name=username]", airflow.user)
    page.fill("input[name=password]", airflow.password)
    page.click("button[type=submit]")
    page.get_by_role("link", name="modelmill").first.click()
    sample = page.get_by_role("region", name="One click: table to champion")
    sample.get_by_role("button", name="Try it on the sample").click()
    expect(page.get_by_text("valid", exact=True)).to_be_visible()
    page.get_by_role("toolbar").get_by_role("button", name="Run", exact=True).click()
    state = page.locator(".mm-run-head .mm-badge")
    expect(state).to_have_text(re.compile("success|failed"), timeout=RUN_MILLISECONDS)
    page.screenshot(path=tmp_path / "run.png", full_page=True)
    assert state.inner_text() == "success", page.locator(".mm-run").inner_text()
    result = page.locator(".mm-result")
    result.get_by_role("table", name="Checks").wait_for()
    page.screenshot(path=tmp_path / "gate.png", full_page=True)
    clicks = page.evaluate("JSON.parse(localStorage.getItem('clicks'))")
    print(clicks, result.inner_text())
    assert len(clicks) <= CLICKS, clicks
