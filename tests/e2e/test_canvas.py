"""What a user does on the canvas: from a table to a promoted model, by template and by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from modelmill_operators.local import LocalAirflow

pytestmark = [pytest.mark.browser, pytest.mark.airflow]

CANVAS = "/plugin/modelmill/canvas"


def step(page: Page, name: str) -> Locator:
    return page.locator(f"[data-step={name}]")


def save(page: Page, button: str = "Save") -> None:
    page.get_by_role("toolbar").get_by_role("button", name="Save").click()
    page.get_by_role("dialog").get_by_role("button", name=button, exact=True).click()


def test_the_keyboard_does_what_the_mouse_does(page: Page) -> None:
    page.goto(f"{CANVAS}/small")
    step(page, "dataset").locator(".mm-node-head").click()
    page.locator("[data-component=fine_tune]").press("Enter")
    expect(step(page, "fine_tune")).to_be_visible()
    assert page.get_by_label("dataset dataset *").input_value() == "dataset.dataset"
    page.get_by_label("Step", exact=True).fill("teacher")
    page.get_by_label("Step", exact=True).press("Enter")
    expect(step(page, "teacher")).to_be_visible()
    page.get_by_label("Base Model *").fill("${base")
    node = page.locator(".react-flow__node[data-id=teacher]")
    node.focus()
    before = node.bounding_box()
    page.keyboard.press("ArrowDown")
    assert node.bounding_box() != before
    page.keyboard.press("Control+c")
    page.keyboard.press("Control+v")
    expect(step(page, "teacher_2")).to_be_visible()
    page.keyboard.press("Control+z")
    expect(step(page, "teacher_2")).to_have_count(0)
    page.keyboard.press("Control+Shift+z")
    expect(step(page, "teacher_2")).to_be_visible()
    page.locator(".react-flow__node[data-id=teacher_2]").press("Enter")
    page.keyboard.press("Delete")
    expect(step(page, "teacher_2")).to_have_count(0)
    page.get_by_label("Text", exact=True).first.click()
    text = page.get_by_label("Text of the pipeline (YAML)")
    assert "# the labels are reviewed" in text.input_value()
    text.fill(text.input_value().replace("${base", "${missing}"))
    expect(page.get_by_role("region", name="Problems")).to_contain_text("teacher")


def test_two_people_save_and_the_second_is_told(page: Page, pipelines: Path) -> None:
    page.goto(f"{CANVAS}/small")
    page.get_by_label("Description").fill("mine")
    file = pipelines / "small.yaml"
    theirs = file.read_text().replace("labels: [desk]", "labels: [desk], key: ticket")
    file.write_text(theirs)
    save(page)
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("has saved this pipeline meanwhile")
    expect(dialog.get_by_label("Changes")).to_contain_text("description: mine")
    dialog.get_by_role("button", name="Take theirs").click()
    expect(page.get_by_label("Description")).to_have_value("")
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_label("Description")).to_have_value("mine")
    save(page)
    expect(page.locator(".mm-notice")).to_contain_text("Saved")
    assert "description: mine" in file.read_text()
    assert "# the labels are reviewed" in file.read_text()

    page.get_by_role("button", name="Versions").click()
    page.get_by_role("dialog").get_by_role("button", name="admin").first.click()
    expect(page.get_by_role("dialog")).to_contain_text("Nothing changes.")


def test_nothing_typed_is_lost_when_the_store_is_gone(page: Page, pipelines: Path) -> None:
    page.goto(f"{CANVAS}/small")
    page.get_by_label("Description").fill("typed while the store was gone")
    away = pipelines.with_name("away")
    pipelines.rename(away)
    pipelines.touch()  # a file where the folder should be: nothing can be saved
    try:
        save(page)
        expect(page.get_by_role("dialog").get_by_role("alert")).to_be_visible()
    finally:
        pipelines.unlink()
        away.rename(pipelines)
    page.reload()
    expect(page.get_by_label("Description")).to_have_value("typed while the store was gone")
    save(page)
    expect(page.locator(".mm-notice")).to_contain_text("Saved")


def test_who_may_not_log_in_sees_nothing_but_the_bundle(airflow: LocalAirflow, page: Page) -> None:
    stranger = page.context.browser
    assert stranger
    context = stranger.new_context()
    answers = {
        path: context.request.get(airflow.url + path).status
        for path in ("/modelmill/api/pipelines", "/modelmill/api/catalogue", "/modelmill/static/canvas.js")
    }
    context.close()
    assert answers == {
        "/modelmill/api/pipelines": 401,
        "/modelmill/api/catalogue": 401,
        "/modelmill/static/canvas.js": 200,
    }
