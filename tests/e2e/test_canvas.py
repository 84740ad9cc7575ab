"""What a user does on the canvas: from a table to a promoted model, by template and by hand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from demo.servers import LocalAirflow
from playwright.sync_api import Browser, Locator, Page, expect
from tests.e2e.newcomers import choose, clicks, expect_how_good_it_is, log_in, newcomer, open_gallery

from modelmill.registry.tracking import tracking_client

pytestmark = [pytest.mark.browser, pytest.mark.airflow]

RUN_MILLISECONDS = 480_000
CANVAS = "/plugin/modelmill/canvas"
CLICKS = 12
"""From log-in to how good the model is, on a table of one's own."""


def champion(home: Path, name: str) -> str:
    client = tracking_client(f"sqlite:///{home}/mlflow.db")
    return str(client.get_model_version_by_alias(name, "champion").version)


def wait_for_run(page: Page) -> None:
    state = page.locator(".mm-run-head .mm-badge")
    expect(state).to_have_text(re.compile("success|failed"), timeout=RUN_MILLISECONDS)
    assert state.inner_text() == "success", page.locator(".mm-run").inner_text()


def step(page: Page, name: str) -> Locator:
    return page.locator(f"[data-step={name}]")


def save(page: Page, button: str = "Save") -> None:
    page.get_by_role("toolbar").get_by_role("button", name="Save").click()
    page.get_by_role("dialog").get_by_role("button", name=button, exact=True).click()


@pytest.mark.timeout(900)
def test_one_click_from_a_table_to_a_promoted_model(
    browser: Browser, airflow: LocalAirflow, home: Path
) -> None:
    page = newcomer(browser, airflow)
    log_in(page, airflow)
    open_gallery(page)
    template = page.get_by_role("region", name="From a table to a small model")
    template.get_by_role("button", name="Use a table of mine").click()
    page.get_by_role("button", name="${data}/tickets", exact=True).click()
    expect(page.get_by_label("Text", exact=True)).to_be_enabled()
    choose(page, "Text", "message")
    choose(page, "Label", "desk")
    expect(page.get_by_role("group", name="Rows by class")).to_contain_text("sport")
    assert page.get_by_label("Name of the pipeline").input_value() == "tickets"
    page.get_by_role("button", name="Save and run").click()
    wait_for_run(page)
    expect_how_good_it_is(page)
    assert len(clicks(page)) <= CLICKS, clicks(page)

    expect(page).to_have_url(re.compile(r"/canvas/tickets$"))
    assert champion(home, "tickets") == "1"
    step(page, "teacher").locator(".mm-node-head").click()
    expect(page.get_by_label("Log of teacher")).to_contain_text("validation accuracy")

    check_what_is_in_it(page)
    check_the_tab_of_the_run(page)
    check_that_it_answers(page)
    page.context.close()


def check_that_it_answers(page: Page) -> None:
    page.goto("/plugin/modelmill/models/tickets")
    good = page.get_by_role("region", name="How good it is")
    expect(good).to_contain_text(re.compile(r"\d % right on \d+ test rows"))
    box = page.get_by_role("region", name="Ask it")
    box.get_by_label("Text to ask about").fill("<b>goal</b> team match coach")
    box.get_by_role("button", name="Ask", exact=True).click()
    expect(box.get_by_role("status")).to_contain_text("Version 1: sport", timeout=RUN_MILLISECONDS)


def check_what_is_in_it(page: Page) -> None:
    """An edge shows its rows and what became of them; a node its figures, a gate its checks."""
    page.locator('[data-id="raw.table>dataset.table"]').press("Enter")
    rows = page.get_by_role("region", name="Rows", exact=True)
    expect(rows).to_contain_text("160 rows at version 0")
    expect(rows.get_by_role("table", name="First rows")).to_contain_text("ticket")
    rows.get_by_role("button", name="desk").click()
    expect(rows).to_contain_text("sport 80")
    expect(page.get_by_role("region", name="What became of the rows").first).to_contain_text(
        "160 rows came in"
    )
    step(page, "dataset").locator(".mm-node-head").click()
    expect(page.get_by_label("Result of dataset")).to_contain_text("Classes of desk")
    page.locator(".react-flow__controls-fitview").click()
    step(page, "exported").locator(".mm-node-head").click()
    evaluation = page.get_by_role("table", name="Evaluation")
    expect(evaluation).to_contain_text("exported")
    expect(evaluation).to_contain_text("majority")
    step(page, "verdict").locator(".mm-node-head").click()
    expect(page.get_by_role("table", name="Checks")).to_contain_text("passed")


def check_the_tab_of_the_run(page: Page) -> None:
    page.get_by_role("link", name="Run in Airflow").click()
    page.locator("a[href*=modelmill_run]").click()
    expect(step(page, "raw").locator(".mm-badge")).to_contain_text("done")
    expect(page.get_by_role("link", name="Open on the canvas")).to_be_visible()


STEPS = {  # component: (step, column and row on the screen)
    "delta_table": ("delta_table", 0, 0),
    "build_dataset": ("build_dataset", 1, 0),
    "fine_tune": ("fine_tune", 2, 0),
    "distill": ("distill", 0, 1),
    "quantize": ("quantize", 1, 1),
    "gate": ("gate", 2, 1),
    "promote": ("promote", 0, 2),
}
EDGES = (
    "delta_table.table build_dataset.table",
    "build_dataset.dataset fine_tune.dataset",
    "build_dataset.dataset distill.dataset",
    "fine_tune.model distill.teacher",
    "build_dataset.dataset quantize.dataset",
    "distill.model quantize.model",
    "build_dataset.dataset gate.dataset",
    "quantize.model gate.challenger",
    "gate.verdict promote.verdict",
)
FIELDS = {
    "delta_table": {"Uri": "${data}/tickets"},
    "build_dataset": {"Text": "message"},
    "fine_tune": {"Base Model": "${base_model}", "Epochs": "1.5"},
    "distill": {"Layers": "2"},
    "gate": {"Name": "by_hand"},
}


def port(page: Page, name: str, side: str) -> tuple[float, float]:
    node, _, handle = name.partition(".")
    box = page.locator(f".{side}[data-nodeid={node}][data-handleid={handle}]").bounding_box()
    assert box
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def draw(page: Page, source: str, sink: str) -> None:
    page.mouse.move(*port(page, source, "source"))
    page.mouse.down()
    page.mouse.move(*port(page, sink, "target"), steps=6)


def fill(page: Page, name: str, fields: dict[str, str]) -> None:
    step(page, name).locator(".mm-node-head").click()
    form = page.get_by_label("Properties")
    for label, value in fields.items():
        field = form.get_by_label(re.compile(rf"^{label}( \*)?$")).last
        if not field.is_visible():
            form.locator("summary").first.click()
        field.fill(value)


@pytest.mark.timeout(900)
def test_the_same_by_dragging_every_node_by_hand(page: Page, home: Path) -> None:
    page.goto("/plugin/modelmill/new")
    graph = page.locator(".mm-flow")
    graph.wait_for()
    for component, (_, column, row) in STEPS.items():
        page.drag_and_drop(
            f"[data-component={component}]",
            ".mm-flow",
            target_position={"x": 130 + 300 * column, "y": 60 + 190 * row},
            steps=6,
        )
        expect(step(page, component)).to_be_visible()
    draw(page, "delta_table.table", "fine_tune.dataset")
    expect(page.locator(".mm-refusal")).to_have_text(
        "input dataset takes a dataset; delta_table.table is a table"
    )
    page.mouse.up()
    expect(page.locator(".react-flow__edge")).to_have_count(0)
    for count, edge in enumerate(EDGES, start=1):
        draw(page, *edge.split())
        page.mouse.up()
        expect(page.locator(".react-flow__edge")).to_have_count(count)
    for name, fields in FIELDS.items():
        fill(page, name, fields)
    step(page, "build_dataset").locator(".mm-node-head").click()
    page.get_by_role("button", name="Add to Labels").click()
    page.locator("#form_build_dataset_labels_0").fill("desk")
    graph.click(position={"x": 700, "y": 560})
    page.get_by_label("Name", exact=True).fill("by_hand")
    for name in ("data", "base_model"):
        page.get_by_label("Name of a new parameter").fill(name)
        page.get_by_label("Name of a new parameter").press("Enter")
    expect(page.locator(".mm-toolbar")).to_contain_text("valid")
    page.get_by_role("button", name="Run", exact=True).click()
    wait_for_run(page)
    expect(page.get_by_role("table", name="Checks")).to_contain_text(
        "passed"
    )  # what was found is shown by itself
    assert champion(home, "by_hand") == "1"


def test_the_keyboard_does_what_the_mouse_does(page: Page) -> None:
    page.goto(f"{CANVAS}/small")
    step(page, "dataset").locator(".mm-node-head").click()
    page.locator("[data-component=fine_tune]").press("Enter")
    expect(step(page, "fine_tune")).to_be_visible()
    assert page.get_by_label("dataset dataset *").input_value() == "dataset.dataset"
    page.get_by_label("Step", exact=True).fill("teacher")
    page.get_by_label("Step", exact=True).press("Enter")
    expect(step(page, "teacher")).to_be_visible()
    page.get_by_label("Base Model", exact=True).fill("${base")
    node = page.locator(".react-flow__node[data-id=teacher]")
    node.focus()
    before = node.bounding_box()
    page.keyboard.press("Shift+ArrowDown")
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
