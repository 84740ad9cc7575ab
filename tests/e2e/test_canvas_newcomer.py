"""From log-in to how good the model is and what it gets wrong: by few clicks, and by the keyboard alone."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from deltalake import DeltaTable, write_deltalake
from demo.samples import prepare
from demo.servers import LocalAirflow
from playwright.sync_api import Browser, Page, expect
from tests.e2e.newcomers import (
    clicks,
    expect_how_good_it_is,
    log_in,
    newcomer,
    open_gallery,
    tab_to,
    wait_for_end,
)

pytestmark = [pytest.mark.browser, pytest.mark.airflow]

CLICKS = 8
LONG = pytest.mark.skipif(
    not os.environ.get("MODELMILL_LONG_TESTS"), reason="minutes of training: set MODELMILL_LONG_TESTS"
)


@pytest.fixture(name="real")
def _real(
    tmp_path_factory: pytest.TempPathFactory,
    mlflow_database: Path,
    start_airflow: Callable[..., LocalAirflow],
) -> Iterator[LocalAirflow]:
    """An Airflow with a real large model, and no pipeline: nothing is there that a run could reuse."""
    home = tmp_path_factory.mktemp("newcomer")
    _, base_model = prepare(home)
    shutil.copy(mlflow_database, home / "mlflow.db")
    large = {"MODELMILL_PARAM_BASE_MODEL": str(base_model)}
    with start_airflow(home, f"sqlite:///{home}/mlflow.db", **large) as server:
        server.wait_ready(timeout=300)
        yield server


@pytest.fixture(name="tickets")
def _tickets(home: Path) -> str:
    """A table of one's own, under a name that no other test uses."""
    source = DeltaTable(home / "data" / "tickets").to_pyarrow_table()
    write_deltalake(str(home / "data" / "by_keys"), source, mode="overwrite")
    return "${data}/by_keys"


@pytest.mark.timeout(2400)
@LONG
def test_on_the_sample_by_mouse(browser: Browser, real: LocalAirflow, tmp_path: Path) -> None:
    page = newcomer(browser, real)
    log_in(page, real)
    open_gallery(page)
    sample = page.get_by_role("region", name="From a table to a small model")
    sample.get_by_role("button", name="Try it on the sample").click()
    expect(page.get_by_text("valid", exact=True)).to_be_visible()
    page.get_by_role("toolbar").get_by_role("button", name="Run", exact=True).click()
    wait_for_end(page)
    expect_how_good_it_is(page)
    page.screenshot(path=tmp_path / "gate.png", full_page=True)
    # A few labels of the sample are wrong: there is always something that it gets wrong.
    expect(page.get_by_role("table", name="Mistakes")).to_be_in_viewport()
    print(clicks(page), page.locator(".mm-result").inner_text())
    assert len(clicks(page)) <= CLICKS, clicks(page)
    page.context.close()


@pytest.mark.timeout(2400)
@LONG
def test_on_the_sample_by_keyboard_alone(browser: Browser, real: LocalAirflow) -> None:
    page = newcomer(browser, real)
    log_in_by_keys(page, real)
    open_gallery_by_keys(page)
    tab_to(page, "BUTTON.*Try it on the sample")
    page.keyboard.press("Enter")
    expect(page.get_by_text("valid", exact=True)).to_be_visible()
    tab_to(page, "BUTTON.*Run$")
    page.keyboard.press("Enter")
    wait_for_end(page)
    read_by_keys(page)
    expect(page.get_by_role("table", name="Mistakes")).to_be_visible()
    assert clicks(page) == []
    page.context.close()


@pytest.mark.timeout(900)
def test_on_a_table_of_its_own_by_keyboard_alone(
    browser: Browser, airflow: LocalAirflow, tickets: str
) -> None:
    page = newcomer(browser, airflow)
    log_in_by_keys(page, airflow)
    open_gallery_by_keys(page)
    tab_to(page, "BUTTON.*Use a table of mine")
    page.keyboard.press("Enter")
    field = page.get_by_label("Path or URI")
    expect(field).to_be_focused()  # the first thing to say is asked for
    page.keyboard.type(tickets)
    text = page.get_by_label("Text", exact=True)
    expect(text).to_be_enabled()
    tab_to(page, "SELECT Text")
    page.keyboard.type("mess")
    expect(text).to_have_value("message")
    tab_to(page, "SELECT Label")
    page.keyboard.type("desk")
    expect(page.get_by_role("group", name="Rows by class")).to_contain_text("sport")
    tab_to(page, "BUTTON.*Save and run")
    if os.environ.get("MODELMILL_LONG_TESTS"):  # test_canvas runs the same pipeline, by mouse
        page.keyboard.press("Enter")
        wait_for_end(page)
        read_by_keys(page)
    assert clicks(page) == []
    page.context.close()


def log_in_by_keys(page: Page, airflow: LocalAirflow) -> None:
    page.locator("input[name=username]").wait_for()
    tab_to(page, "INPUT.*[Uu]sername")
    page.keyboard.type(airflow.user)
    tab_to(page, "INPUT.*[Pp]assword")
    page.keyboard.type(airflow.password)
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Dags", exact=True).wait_for()


def open_gallery_by_keys(page: Page) -> None:
    tab_to(page, "A modelmill")
    page.keyboard.press("Enter")
    begin = page.get_by_role("button", name="Begin something new")
    begin.or_(page.get_by_role("region", name="Templates")).first.wait_for()
    if begin.is_visible():
        tab_to(page, "BUTTON Begin something new")
        page.keyboard.press("Enter")
    page.get_by_role("region", name="Templates").wait_for()


def read_by_keys(page: Page) -> None:
    """Go to the result, and to its end: what a reader does who has no wheel."""
    expect_how_good_it_is(page)
    tab_to(page, r"\w+ Go to the run")
    page.keyboard.press("Enter")
    tab_to(page, "SECTION Result of verdict")
    result = page.locator(".mm-result")
    for _ in range(30):
        page.keyboard.press("PageDown")
        page.wait_for_timeout(150)
        if result.evaluate("one => one.scrollTop + one.clientHeight >= one.scrollHeight - 2"):
            break
    expect(result.get_by_role("table", name="Quality by class")).to_be_visible()
    expect(result.locator("details").last).to_be_in_viewport()
    assert re.search(r"\d % right on \d+ test rows", result.inner_text())
