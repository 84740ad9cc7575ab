"""Something is down while a person works: the page says what, and loses nothing that was typed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from demo.servers import LocalAirflow
from demo.servers.processes import free_port
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.airflow]

CANVAS = "/plugin/modelmill/canvas"


def save(page: Page) -> None:
    page.get_by_role("toolbar").get_by_role("button", name="Save").click()
    page.get_by_role("dialog").get_by_role("button", name="Save", exact=True).click()
    expect(page.locator(".mm-notice")).to_contain_text("Saved")


@pytest.fixture(scope="module")
def airflow(
    tmp_path_factory: pytest.TempPathFactory, start_airflow: Callable[..., LocalAirflow]
) -> Iterator[LocalAirflow]:
    """One of its own, whose MLflow is down all the while."""
    home = tmp_path_factory.mktemp("failures")
    # A processor that is down is missed after this many seconds, not after 30.
    missed = {"AIRFLOW__DAG_PROCESSOR__HEALTH_CHECK_THRESHOLD": "12"}
    with start_airflow(home, f"http://127.0.0.1:{free_port()}", **missed) as server:
        server.wait_ready(timeout=300)
        yield server


@pytest.fixture
def processor_down(airflow: LocalAirflow) -> Iterator[None]:
    assert airflow.servers
    airflow.servers.kill("dag-processor")
    yield
    airflow.start_server("dag-processor")


def test_saving_needs_no_mlflow(page: Page, pipelines: Path) -> None:
    page.goto(f"{CANVAS}/small")
    page.get_by_label("Description").fill("typed while MLflow was down")
    save(page)
    assert "typed while MLflow was down" in (pipelines / "small.yaml").read_text()
    page.goto("/plugin/modelmill/models")
    expect(page.get_by_role("alert")).to_contain_text("MLflow must answer")
    page.goto("/plugin/modelmill/pipelines")
    expect(page.get_by_role("link", name="small")).to_be_visible()
    page.goto("/plugin/modelmill/rules")
    text = page.get_by_label("Rule set (YAML)")
    text.fill("rule_set: typed")
    page.reload()
    expect(text).to_have_value("rule_set: typed")


@pytest.mark.usefixtures("processor_down")
def test_a_dag_processor_that_is_down_is_said(page: Page, pipelines: Path) -> None:
    page.goto(f"{CANVAS}/small")
    page.get_by_label("Description").fill("typed while nobody parsed")
    save(page)
    assert "typed while nobody parsed" in (pipelines / "small.yaml").read_text()
    page.get_by_role("button", name="Run", exact=True).click()
    notice = page.locator(".mm-notice")
    expect(notice).to_contain_text("waiting for Airflow to parse the pipeline")
    expect(notice).to_contain_text(re.compile("its DAG processor is .*: start it"))
    expect(page.get_by_label("Description")).to_have_value("typed while nobody parsed")


def test_a_table_that_is_gone_is_said(page: Page, home: Path) -> None:
    table, away = home / "data" / "tickets", home / "data" / "away"
    table.rename(away)
    try:
        page.goto("/plugin/modelmill/one-click")
        page.get_by_label("Path or URI").fill("${data}/tickets")
        expect(page.get_by_role("alert")).to_contain_text("tickets")
        assert page.get_by_label("Path or URI").input_value() == "${data}/tickets"
        page.goto("/plugin/modelmill/rules")
        text = page.get_by_label("Rule set (YAML)")
        text.fill(text.input_value() + "# typed")
        page.get_by_label("Table to try it on").fill("${data}/tickets")
        page.get_by_role("button", name="Try").click()
        expect(page.get_by_label("Try").get_by_role("alert")).to_contain_text("tickets")
        assert text.input_value().endswith("# typed")
        page.goto(f"{CANVAS}/small")
        page.get_by_label("Description").fill("typed while the table was gone")
        save(page)
    finally:
        away.rename(table)
