"""Groups, a copy of them for each value, and branches on a gate: drawn, written, shown in a run."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import FloatRect, Locator, Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.airflow]

DESKS = """\
pipeline: desks
params:
  data: {description: Folder of the tables}
  base_model: {description: The large model}

steps:
  raw: {component: delta_table, config: {uri: "${data}/tickets"}}

  # the labels are reviewed
  dataset:
    component: build_dataset
    inputs: {table: raw.table}
    config: {text: message, labels: [desk]}

  plain:
    component: fine_tune
    inputs: {dataset: dataset.dataset}
    config: {base_model: "${base_model}"}

  first:
    component: gate
    inputs: {dataset: dataset.dataset, challenger: plain.model}
    config: {name: desks}

  student:
    component: distill
    inputs: {dataset: dataset.dataset, teacher: plain.model}
    config: {layers: 2}  # as small as it gets

  verdict:
    component: gate
    inputs: {dataset: dataset.dataset, challenger: student.model}
    config: {name: desks_small}

  champion:
    component: promote
    inputs: {verdict: verdict.verdict}

  exported:
    component: quantize
    inputs: {dataset: dataset.dataset, model: plain.model}

  report:
    component: evaluate
    inputs: {dataset: dataset.dataset, models: [plain.model]}
"""
LAYERS = """{layers: "${layers}"}  # as small as it gets
    when: {first: refused}"""
DRAWN = (
    DESKS.replace(
        "\nsteps:\n",
        """
groups:
  each_size:
    steps: [student, verdict, champion]
    for_each: {layers: [2, 3]}

steps:
""",
    )
    .replace("{layers: 2}  # as small as it gets", LAYERS)
    .replace("{name: desks_small}", '{name: "desks_${layers}"}')
    .replace("[plain.model]", "[plain.model, student.model]")
)

RULES = """\
rule_set: desks
key: ticket
signals:
  goal: {kind: phrases, column: message, phrases: [WORD]}
default: other
rules:
  - {name: sport, when: goal, then: sport}
"""
JUDGED = """\
pipeline: judged
params:
  data: {}
  rules: {}
groups:
  each_set:
    steps: [verdict, champion]
    for_each: {set: [alive, dead]}
steps:
  raw: {component: delta_table, config: {uri: "${data}/tickets"}}
  verdict:
    component: gate_rules
    inputs: {table: raw.table}
    config: {name: "judged_${set}", rule_set: "${rules}/${set}.yaml", max_changed: 1}
  champion:
    component: promote
    inputs: {verdict: verdict.verdict}
    when: {verdict: accepted}
  first:
    component: gate_rules
    inputs: {table: raw.table}
    config: {name: judged_first, rule_set: "${rules}/dead.yaml"}
  fallback:
    component: delta_table
    config: {uri: "${data}/tickets"}
    when: {first: refused}
  usual:
    component: delta_table
    config: {uri: "${data}/tickets"}
    when: {first: accepted}
"""


def step(page: Page, name: str) -> Locator:
    return page.locator(f"[data-step={name}]")


def frame(page: Page, name: str) -> Locator:
    return page.locator(f"[data-frame={name}]")


def port(page: Page, name: str, handle: str, side: str) -> tuple[float, float]:
    box = box_of(page.locator(f".{side}[data-nodeid={name}][data-handleid='{handle}']"))
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def draw(page: Page, source: tuple[str, str], sink: tuple[str, str]) -> None:
    """Hold an edge over where it would end."""
    page.mouse.move(*port(page, *source, "source"))
    page.mouse.down()
    page.mouse.move(*port(page, *sink, "target"), steps=6)


def box_of(item: Locator) -> FloatRect:
    """Return where something is once it has stopped moving: the graph glides to its place."""
    before = None
    while (box := item.bounding_box()) is None or box != before:
        before = box
        item.page.wait_for_timeout(150)
    return box


def drag(page: Page, item: Locator, x: float, y: float, *, into: str | None = None) -> None:
    """Take a step or a frame at its head and let it go; ``into``: the group that takes it, and says so."""
    head = box_of(item)
    page.mouse.move(head["x"] + 20, head["y"] + 6)
    page.mouse.down()
    page.mouse.move(x, y, steps=12)
    if into is not None:
        expect(frame(page, into)).to_have_class(re.compile("mm-target"))
    page.mouse.up()


def field(page: Page, label: str) -> Locator:
    return page.get_by_label("Properties").get_by_label(label, exact=True)


def text_of(page: Page) -> str:
    """Return the pipeline's text, which must be valid."""
    expect(page.locator(".mm-toolbar")).to_contain_text("valid")
    return page.get_by_label("Text of the pipeline (YAML)").input_value()


@pytest.mark.timeout(400)
def test_a_group_for_each_value_and_a_branch_are_drawn(
    page: Page, pipelines: Path, serious: Callable[[Page], list[Any]]
) -> None:
    (pipelines / "desks.yaml").write_text(DESKS)
    page.goto("/plugin/modelmill/canvas/desks")

    step(page, "student").locator(".mm-node-head").click()
    step(page, "verdict").locator(".mm-node-head").click(modifiers=["Shift"])
    for event in ("pointerdown", "click"):  # a key that the page has not seen go down yet
        step(page, "champion").locator(".mm-node-head").dispatch_event(event, {"shiftKey": True})
    expect(page.locator(".mm-node.mm-selected")).to_have_count(3)
    page.keyboard.press("Control+g")
    expect(frame(page, "group")).to_be_visible()
    field(page, "Name").fill("each_size")
    field(page, "Name").press("Enter")
    field(page, "Variable").fill("layers")
    field(page, "Variable").press("Enter")
    expect(page.locator(".mm-toolbar")).to_contain_text("1 problem")
    expect(frame(page, "each_size").locator(".mm-node-problem")).to_be_visible()
    field(page, "New values").fill("2, 3")
    field(page, "New values").press("Enter")
    expect(frame(page, "each_size")).to_contain_text("for each layers: 2, 3")
    expect(frame(page, "each_size").locator(".mm-frame-count")).to_contain_text("2")

    step(page, "student").locator(".mm-node-head").click()
    field(page, "Layers").fill("${layers}")
    step(page, "verdict").locator(".mm-node-head").click()
    page.locator("#form_verdict_name").fill("desks_${layers}")

    edges = page.locator(".react-flow__edge")
    before = edges.count()
    draw(page, ("student", "model"), ("exported", "model"))
    expect(page.locator(".mm-refusal")).to_contain_text("student is there for each layers")
    page.mouse.up()
    draw(page, ("student", "model"), ("report", "models"))
    page.mouse.up()
    expect(edges).to_have_count(before + 1)
    draw(page, ("dataset", "dataset"), ("student", "when:"))
    expect(page.locator(".mm-refusal")).to_contain_text("dataset gives no verdict")
    page.mouse.up()
    draw(page, ("verdict", "when:refused"), ("report", "when:"))
    expect(page.locator(".mm-refusal")).to_contain_text("only steps of each_size can wait for it")
    page.mouse.up()
    draw(page, ("first", "when:refused"), ("student", "when:"))
    page.mouse.up()
    expect(page.locator(".mm-when")).to_contain_text("refused")

    page.keyboard.press("Control+z")
    expect(page.locator(".mm-when")).to_have_count(0)
    page.keyboard.press("Control+Shift+z")
    expect(page.locator(".mm-when")).to_have_count(1)
    assert serious(page) == []
    expect(page.locator(".mm-toolbar")).to_contain_text("valid")
    page.get_by_role("toolbar").get_by_role("button", name="Save").click()
    page.get_by_role("dialog").get_by_role("button", name="Save", exact=True).click()
    expect(page.locator(".mm-notice")).to_contain_text("Saved")
    assert (pipelines / "desks.yaml").read_text() == DRAWN


@pytest.mark.timeout(400)
def test_groups_and_branches_by_keyboard(
    page: Page, pipelines: Path, serious: Callable[[Page], list[Any]]
) -> None:
    (pipelines / "keys.yaml").write_text(DRAWN.replace("pipeline: desks", "pipeline: keys"))
    page.goto("/plugin/modelmill/canvas/keys")
    page.get_by_role("button", name="Graph and text").click()
    page.get_by_role("button", name="Arrange automatically").click()
    begin = text_of(page)

    group = page.locator(".react-flow__node[data-id='group:each_size']")
    group.focus()
    page.keyboard.press("Enter")
    before = step(page, "verdict").bounding_box()
    page.keyboard.press("Shift+ArrowDown")
    expect(field(page, "Variable")).to_have_value("layers")
    assert step(page, "verdict").bounding_box() != before
    page.get_by_role("button", name="Collapse group each_size").press("Enter")
    expect(step(page, "verdict")).to_have_count(0)
    assert serious(page) == []
    page.get_by_role("button", name="Expand group each_size").press("Enter")
    expect(step(page, "verdict")).to_be_visible()
    assert text_of(page) == begin

    group.focus()
    page.keyboard.press("Control+d")
    expect(frame(page, "each_size_2")).to_be_visible()
    assert "steps: [student_2, verdict_2, champion_2]" in text_of(page)
    page.keyboard.press("Control+z")
    assert text_of(page) == begin

    report = page.locator(".react-flow__node[data-id=report]")
    report.press("Enter")
    field(page, "Group").select_option("each_size")
    assert "[student, verdict, champion, report]" in text_of(page)
    field(page, "Runs if").select_option(label="verdict accepted")
    assert "when: {verdict: accepted}" in text_of(page)
    page.get_by_role("button", name="Whatever verdict says").press("Enter")
    report.press("Shift+F10")
    page.get_by_role("menuitem", name="Take out of the group").press("Enter")
    assert text_of(page) == begin

    group.press("Enter")
    page.keyboard.press("Delete")
    expect(group).to_have_count(0)
    expect(step(page, "verdict")).to_be_visible()
    expect(page.locator(".mm-toolbar")).to_contain_text("problem")
    page.keyboard.press("Control+z")
    assert text_of(page) == begin


@pytest.mark.timeout(400)
def test_a_group_moves_as_one_and_takes_what_is_dropped_into_it(page: Page, pipelines: Path) -> None:
    (pipelines / "moved.yaml").write_text(DRAWN.replace("pipeline: desks", "pipeline: moved"))
    page.goto("/plugin/modelmill/canvas/moved")
    page.get_by_role("button", name="Graph and text").click()
    page.get_by_role("button", name="Arrange automatically").click()
    begin = text_of(page)

    box = box_of(frame(page, "each_size"))
    drag(
        page,
        step(page, "report"),
        box["x"] + box["width"] / 2,
        box["y"] + box["height"] / 3,
        into="each_size",
    )
    assert "[student, verdict, champion, report]" in text_of(page)
    drag(page, step(page, "report"), box["x"], box["y"] + 4 * box["height"])
    assert text_of(page) == begin

    page.locator(".react-flow__controls-fitview").click()  # what is out of sight is not drawn
    for _ in range(2):  # room around it: near an edge, React Flow moves the whole graph while one drags
        page.locator(".react-flow__controls-zoomout").click()
    box = box_of(frame(page, "each_size"))
    before = {name: box_of(step(page, name)) for name in ("student", "champion", "plain")}
    drag(page, frame(page, "each_size"), box["x"] - 60, box["y"] - 70)
    after = {name: box_of(step(page, name)) for name in before}
    moved = {name: after[name]["y"] - before[name]["y"] for name in before}
    assert moved["student"] == pytest.approx(moved["champion"])
    assert moved["student"] < -50
    assert moved["plain"] == 0
    assert text_of(page) == begin


def test_several_labels_are_a_group_with_a_copy_for_each(
    page: Page, serious: Callable[[Page], list[Any]]
) -> None:
    page.goto("/plugin/modelmill/one-click")
    tables = page.get_by_role("group", name="Tables that are there")
    tables.get_by_role("button", name="${data}/tickets", exact=True).click()
    expect(page.get_by_label("Path or URI")).to_have_value("${data}/tickets")
    expect(tables).to_have_count(0)
    page.get_by_label("Text").select_option("message")
    page.get_by_text("for each of several columns").click()
    labels = page.get_by_role("group", name="Labels")
    for column in ("desk", "ticket"):
        labels.get_by_text(column).click()
    assert serious(page) == []
    page.get_by_role("button", name="Open on the canvas").click()
    expect(frame(page, "each_signal")).to_contain_text("for each signal: ticket, desk")
    expect(page.locator(".mm-toolbar")).to_contain_text("valid")


@pytest.mark.timeout(600)
def test_a_run_shows_copies_together_and_what_was_skipped(
    page: Page, pipelines: Path, rules: Path, serious: Callable[[Page], list[Any]]
) -> None:
    (rules / "alive.yaml").write_text(RULES.replace("WORD", "goal"))
    (rules / "dead.yaml").write_text(RULES.replace("WORD", "a word of no row"))
    (pipelines / "judged.yaml").write_text(JUDGED)
    page.goto("/plugin/modelmill/canvas/judged")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.locator(".mm-run-head .mm-badge")).to_have_text(re.compile("success|failed"), timeout=300_000)
    badges = {
        "verdict": "done 2/2",
        "champion": "done 1/2",
        "first": "done",
        "fallback": re.compile("done|reused"),
        "usual": "skipped",
    }
    for name, text in badges.items():
        expect(step(page, name).locator(".mm-badge")).to_contain_text(text)
    expect(frame(page, "each_set").locator(".mm-badge")).to_contain_text("done 3/4")

    step(page, "champion").locator(".mm-node-head").click()
    copies = page.get_by_label("Copy of champion")
    expect(copies).to_contain_text("1 done, 1 skipped")
    copies.select_option(label="dead · skipped")
    expect(page.get_by_label("Log of champion__dead")).to_contain_text("skipped: judged_dead was refused")
    assert serious(page) == []
    state = page.locator(".mm-run-head .mm-badge")
    page.get_by_role("button", name="Run only this").click()
    expect(state).not_to_have_text("success")
    expect(state).to_have_text("success", timeout=300_000)
    expect(copies).to_contain_text("1 done, 1 skipped")
