"""The canvas for everybody: axe finds nothing on any page, in any size, light or dark, in both languages.

Each page is checked in three of the twelve ways, so that every size, both colours and both languages come up;
with ``MODELMILL_LONG_TESTS`` in all of them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page
from tests.e2e.answers import (
    of_a_day,
    of_a_model,
    of_two_runs,
    of_waiting_steps,
    question,
    route_answers,
)
from tests.e2e.test_canvas_groups import DRAWN

pytestmark = [pytest.mark.browser, pytest.mark.airflow]

AXE = Path(__file__).parents[2] / "plugins" / "canvas" / "node_modules" / "axe-core" / "axe.min.js"
SIZES = {"100 %": (1440, 900), "200 %": (720, 450), "a telephone": (390, 844)}
LANGUAGES = ("en", "zh-CN")
ALWAYS = {("en", "100 %", "light"), ("en", "a telephone", "dark"), ("zh-CN", "200 %", "dark")}
WORDS = ("sport", "trade", "weather")
RULES = """rule_set: mail
key: ticket
signals:
  offer: {kind: phrases, column: message, phrases: [offer]}
rules:
  - {name: offers, when: offer, then: review}
default: keep
"""
RUN = """async () => {
    const shown = ['.mm-dialog', '.mm-root'].filter((place) => document.querySelector(place));
    return (await axe.run({ include: shown.map((place) => [place]) })).violations;
}"""


def button(page: Page, *names: str) -> None:
    page.get_by_role("button", name=re.compile(f"^({'|'.join(names)})$")).first.click()


def canvas(page: Page) -> None:
    page.goto("/plugin/modelmill/canvas/small")
    page.locator("[data-step=dataset]").wait_for()


def gallery(page: Page) -> None:
    page.goto("/plugin/modelmill/home")
    begin = page.get_by_role("button", name=re.compile("^(Begin something new|新建)$"))
    begin.or_(page.locator(".mm-page section").first).first.wait_for()
    if begin.is_visible():
        begin.click()
    page.locator(".mm-page section").first.wait_for()


def tour(page: Page) -> None:
    page.goto("/plugin/modelmill/home")
    button(page, "Take the tour", "开始导览")
    page.get_by_role("dialog").wait_for()


def text_and_problems(page: Page) -> None:
    page.goto("/plugin/modelmill/new")
    page.locator("[data-component=delta_table]").press("Enter")
    page.locator("[data-step=delta_table]").wait_for()
    button(page, "Graph and text", "图与文本")
    page.locator(".mm-text textarea").wait_for()


def saving(page: Page) -> None:
    canvas(page)
    page.locator(".mm-inspector textarea").first.fill("another description")
    button(page, "Save", "保存")
    page.get_by_role("dialog").locator(".mm-diff").wait_for()


def node_of_a_run(page: Page) -> None:
    canvas(page)
    page.locator(".mm-run-head select").select_option("two")
    page.locator("[data-step=raw] .mm-node-head").click()
    page.locator(".mm-result table").first.wait_for()


def edge_of_a_run(page: Page) -> None:
    canvas(page)
    page.locator('[data-id="raw.table>dataset.table"]').press("Enter")
    page.get_by_role("table", name=re.compile("First rows|前几行")).wait_for()


def node_with_more_room(page: Page) -> None:
    node_of_a_run(page)
    button(page, "Higher", "加高")


def step_that_asks(page: Page) -> None:
    route_answers(page, of_waiting_steps(WORDS))
    page.route("**/hitlDetails*", lambda route: route.fulfill(json=question(WORDS)))
    canvas(page)
    page.locator("[data-step=raw] .mm-badge").wait_for()
    page.locator("[data-step=raw] .mm-node-head").click()
    page.locator(".mm-run .mm-card").wait_for()


def step_that_waits_for_batches(page: Page) -> None:
    step_that_asks(page)
    page.locator("[data-step=dataset] .mm-node-line").get_by_text("batch sport").wait_for()
    page.locator("[data-step=dataset] .mm-node-head").click()
    page.locator(".mm-log").wait_for()


def group(page: Page) -> None:
    page.goto("/plugin/modelmill/canvas/grouped")
    # By keys: an edge may run over the head of a frame.
    page.locator(".react-flow__node", has=page.locator("[data-frame=each_size]")).press("Enter")
    page.locator(".mm-inspector").get_by_text(re.compile("^(For each|循环)$")).first.wait_for()


def group_that_is_collapsed(page: Page) -> None:
    group(page)
    page.locator("[data-frame=each_size] .mm-frame-button").press("Enter")
    page.locator(".mm-collapsed").wait_for()


def tables_of_one_click(page: Page) -> None:
    page.goto("/plugin/modelmill/one-click")
    page.get_by_role("button", name="${data}/tickets").first.wait_for()


def decision(page: Page) -> None:
    page.goto("/plugin/modelmill/decisions?table=t&column=id&key=k")
    page.locator(".mm-explanation").wait_for()
    page.locator(".mm-more summary").click()


def comparison(page: Page) -> None:
    node_of_a_run(page)
    button(page, "Compare", "比较")
    page.get_by_role("dialog").locator("table").first.wait_for()


def one_click(page: Page) -> None:
    page.goto("/plugin/modelmill/one-click")
    page.locator(".mm-wizard input").first.fill("${data}/tickets")
    page.locator(".mm-wizard table").wait_for()


def model(page: Page) -> None:
    page.goto("/plugin/modelmill/models/m")
    page.locator(".mm-page textarea").fill("a text")
    button(page, "Ask", "提问")
    page.locator(".mm-two .mm-bar").first.wait_for()


def at(path: str) -> Callable[[Page], None]:
    def go(page: Page) -> None:
        page.goto(f"/plugin/modelmill/{path}")
        page.locator(".mm-root h1").first.wait_for()
        page.wait_for_load_state("networkidle")

    return go


PLACES: dict[str, Callable[[Page], None]] = {
    "home, a day on which everything happens": at("home"),
    "gallery": gallery,
    "tour": tour,
    "pipelines": at("pipelines"),
    "canvas with text and problems": text_and_problems,
    "saving": saving,
    "node": node_of_a_run,
    "node with more room": node_with_more_room,
    "edge": edge_of_a_run,
    "comparison": comparison,
    "group": group,
    "group that is collapsed": group_that_is_collapsed,
    "one click, its tables": tables_of_one_click,
    "one click": one_click,
    "model": model,
    "rule set": at("rules/mail"),
    "decisions": at("decisions"),
    "decision": decision,
    "labelling": at("labelling"),
    "queue": at("labelling/everybody"),
    # From here on the runs are others.
    "step that asks": step_that_asks,
    "step that waits for batches": step_that_waits_for_batches,
}


def found(page: Page) -> list[Any]:
    """What axe finds, and how many pixels stand where nobody can scroll to."""
    page.wait_for_timeout(400)  # colours fade in, and axe measures them
    lines = [
        (item["id"], item["impact"], [node["html"][:160] for node in item["nodes"]][:3])
        for item in page.evaluate(RUN)
    ]
    hidden = page.locator(".mm-root").evaluate("({scrollWidth, clientWidth}) => scrollWidth - clientWidth")
    return [*lines, *([("hidden width", hidden)] if hidden > 1 else [])]


@pytest.fixture(name="queue")
def _queue(page: Page) -> None:
    """A queue of rows to label."""
    page.goto("/plugin/modelmill/labelling")
    form = page.get_by_role("form", name="Put rows forward")
    fields = {"Table": "${data}/tickets", "Column with the key": "ticket", "Column to read": "message"}
    form.get_by_text("More", exact=True).click()
    fields |= {"Name of the queue": "everybody", "Classes": "sport, trade", "What is labelled": "desk"}
    for label, value in fields.items():
        form.get_by_label(label, exact=True).fill(value)
    form.get_by_role("button", name="Put forward").click()
    page.get_by_role("region", name="Row to label").wait_for()


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.usefixtures("queue")
def test_axe_finds_nothing(page: Page, language: str, rules: Path, pipelines: Path) -> None:
    if not AXE.exists():
        pytest.skip("axe-core comes with the canvas's packages: ./run canvas")
    (rules / "mail.yaml").write_text(RULES)
    (pipelines / "grouped.yaml").write_text(DRAWN.replace("pipeline: desks", "pipeline: grouped"))
    page.add_init_script(f"localStorage.setItem('i18nextLng', '{language}')")
    page.on("dialog", lambda dialog: dialog.accept())  # "leave the page?"
    route_answers(page, of_two_runs(WORDS) | of_a_model(WORDS) | of_a_day(WORDS))
    is_long = bool(os.environ.get("MODELMILL_LONG_TESTS"))
    wrong = {}
    for place, open_it in PLACES.items():
        page.set_viewport_size({"width": 1440, "height": 900})
        open_it(page)
        page.add_script_tag(path=AXE)
        for size, (width, height) in SIZES.items():
            for colours in ("light", "dark"):
                if not is_long and (language, size, colours) not in ALWAYS:
                    continue
                page.set_viewport_size({"width": width, "height": height})
                page.emulate_media(color_scheme=colours)
                page.wait_for_function(
                    "name => document.documentElement.classList.contains(name)", arg=colours
                )
                if problems := found(page):
                    wrong[f"{place}, {size}, {colours}"] = problems
    assert wrong == {}
