"""The first page, and what can be done with pipelines in the list: a sample, a copy, a file, a pause."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Error, Locator, Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.airflow]

RUN_MILLISECONDS = 480_000


def save(page: Page, button: str = "Save") -> None:
    page.get_by_role("toolbar").get_by_role("button", name="Save").click()
    page.get_by_role("dialog").get_by_role("button", name=button, exact=True).click()


def row(page: Page, name: str) -> Locator:
    return page.get_by_role("row").filter(has=page.get_by_role("link", name=name, exact=True))


@pytest.mark.timeout(900)
def test_one_click_on_a_sample_leads_to_a_pipeline_that_runs(page: Page, home: Path, pipelines: Path) -> None:
    try_the_sample(page)
    assert (home / "data" / "samples" / "messages" / "_delta_log").is_dir()
    will_do(page, "2 steps run.", "How long it takes is not known: these steps have never run.")
    page.get_by_role("dialog").get_by_role("button", name="Run", exact=True).click()
    state = page.locator(".mm-run-head .mm-badge")
    expect(state).to_have_text(re.compile("success|failed"), timeout=RUN_MILLISECONDS)
    assert state.inner_text() == "success", page.locator(".mm-run").inner_text()
    assert (pipelines / "sample_dataset.yaml").exists()
    will_do(page, "No step runs: all results are there and are taken.")
    try_the_sample(page)  # what is there already is no conflict
    page.get_by_role("toolbar").get_by_role("button", name="Run", exact=True).click()
    expect(page).to_have_url(re.compile("/canvas/sample_dataset"))
    expect(page.get_by_role("dialog")).to_have_count(0)


def try_the_sample(page: Page) -> None:
    """Open the canvas with a template that is filled with the sample."""
    page.goto("/plugin/modelmill")
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    begin = page.get_by_role("button", name="Begin something new")
    begin.or_(page.get_by_role("region", name="Templates")).wait_for()
    if begin.is_visible():  # something happened lately
        begin.click()
    page.get_by_role("region", name="A clean dataset").get_by_role("button", name="Try it").click()
    expect(page.locator("[data-step=dataset]")).to_be_visible()
    expect(page.get_by_text("valid", exact=True)).to_be_visible()


def will_do(page: Page, *said: str) -> None:
    """Expect what is said of a run before it is started."""
    page.get_by_role("toolbar").get_by_role("button", name="What a run will do").click()
    dialog = page.get_by_role("dialog").get_by_role("region", name="What a run will do")
    for sentence in said:
        expect(dialog).to_contain_text(sentence)


def test_what_is_searched_for_is_found_by_the_keyboard(page: Page) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto("/plugin/modelmill/home")
    box = page.get_by_role("searchbox", name="Search pipelines")
    expect(box).to_be_visible()
    assert not any(url.endswith("/api/pipelines") for url in asked)  # only what is shown is read
    box.fill("SMA")
    expect(page.get_by_role("search").get_by_role("link", name="small")).to_be_visible()
    box.press("Enter")
    expect(page).to_have_url(re.compile("/canvas/small$"))


def test_a_pipeline_is_copied_exported_and_deleted(page: Page, pipelines: Path) -> None:
    page.goto("/plugin/modelmill/pipelines")
    with page.expect_download() as exported:
        row(page, "small").get_by_role("button", name="Export small").click()
    assert exported.value.suggested_filename == "small.yaml"
    assert exported.value.path().read_text() == (pipelines / "small.yaml").read_text()

    row(page, "small").get_by_role("button", name="Duplicate small").click()
    expect(page.locator(".mm-name")).to_have_text("small_copy")
    save(page)
    expect(page).to_have_url(re.compile("/canvas/small_copy$"))
    assert "# the labels are reviewed" in (pipelines / "small_copy.yaml").read_text()

    page.get_by_role("link", name="Pipelines", exact=True).click()
    row(page, "small_copy").get_by_role("button", name="Delete small_copy").click()
    dialog = page.get_by_role("dialog")
    button = dialog.get_by_role("button", name="Delete", exact=True)
    expect(button).to_be_disabled()
    dialog.get_by_label("Type the name").fill("small_copy")
    button.click()
    expect(dialog).to_have_count(0)  # what is behind it can be seen again
    expect(row(page, "small_copy")).to_have_count(0)
    assert not (pipelines / "small_copy.yaml").exists()


def test_a_schedule_is_said_in_words_and_pauses(page: Page, pipelines: Path) -> None:
    text = (pipelines / "small.yaml").read_text().replace("pipeline: small", "pipeline: nightly")
    (pipelines / "nightly.yaml").write_text(text + 'schedule: "30 2 * * 1-5"\n')
    page.goto("/plugin/modelmill/pipelines")
    expect(row(page, "nightly")).to_contain_text("Monday to Friday at 02:30 UTC")
    pause = row(page, "nightly").get_by_role("button", name=re.compile("the schedule of nightly"))
    for _ in range(30):  # until Airflow has parsed it
        try:
            pause.wait_for(timeout=5_000)
            break
        except Error:
            page.reload()
    before = pause.get_attribute("aria-pressed")
    pause.click()
    expect(pause).to_have_attribute("aria-pressed", "false" if before == "true" else "true")


@pytest.mark.parametrize("page", ["light", "dark"], indirect=True)
def test_the_first_page_is_for_everybody(page: Page, serious: Callable[[Page], list[Any]]) -> None:
    page.goto("/plugin/modelmill/home")
    begin = page.get_by_role("button", name="Begin something new")
    begin.or_(page.get_by_role("region", name="Templates")).wait_for()
    if begin.is_visible():  # something happened lately
        begin.click()
    expect(page.get_by_role("region", name="A clean dataset")).to_be_visible()
    assert serious(page) == []
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.locator(".mm-page").evaluate("element => element.scrollWidth <= element.clientWidth")


def test_the_tour_is_for_the_keyboard_too(page: Page) -> None:
    page.goto("/plugin/modelmill/home")
    page.get_by_role("button", name="Take the tour").press("Enter")
    tour = page.get_by_role("dialog")
    for title, path, framed in (
        ("Overview", "home", ".mm-home"),
        ("Pipelines", "pipelines", ".mm-table"),
        ("Canvas", "new", ".mm-palette"),
        ("Models", "models", ".mm-nav-link.active"),
    ):
        expect(tour.get_by_role("heading", name=title)).to_be_focused()
        expect(page).to_have_url(re.compile(f"/modelmill/{path}"))
        expect(page.locator(framed).first).to_have_css("outline-style", "solid")
        tour.get_by_role("button", name="Next").press("Enter")
    expect(tour.get_by_role("button", name="Done")).to_be_visible()
    # A new rule set gets its address after the page.
    expect(page).to_have_url(re.compile("/modelmill/rules/new/"))
    expect(tour.get_by_role("heading", name="Rule sets")).to_be_focused()
    # A page that is made anew takes the focus away.
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Escape")
    expect(tour).to_have_count(0)
