"""The canvas for everybody: axe finds nothing on any page, in any size, light or dark, in both languages.

The views that most people see are checked in three of the twelve ways, so that every size, both colours and
both languages come up: every second view in English, the others in Chinese, since to open a view takes
longer than to look at it. With ``MODELMILL_LONG_TESTS`` all views are checked in all ways, or those whose
names match ``MODELMILL_VIEWS``, a pattern such as ``conflict|tab of``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Error, Page
from tests.e2e.answers import of_a_day, of_a_model, of_two_runs, route_answers
from tests.e2e.test_canvas_groups import DRAWN
from tests.e2e.views import OFTEN, SELDOM, WORDS

pytestmark = [pytest.mark.browser, pytest.mark.airflow]

AXE = Path(__file__).parents[2] / "plugins" / "canvas" / "node_modules" / "axe-core" / "axe.min.js"
SIZES = {"100 %": (1440, 900), "200 %": (720, 450), "a telephone": (390, 844)}
LANGUAGES = ("en", "zh-CN")
ALWAYS = {("100 %", "light"), ("200 %", "dark"), ("a telephone", "dark")}
RULES = """rule_set: mail
key: ticket
signals:
  offer: {kind: phrases, column: message, phrases: [offer]}
rules:
  - {name: offers, when: offer, then: review}
default: keep
"""
ASKS = """pipeline: asks
steps:
  raw: {component: delta_table, config: {uri: "${data}/${day}"}}
params:
  data: {description: Folder of the tables}
  day: {description: Day of the table}
"""
RUN = """async () => {
    const shown = ['.mm-dialog', '.mm-root'].filter((place) => document.querySelector(place));
    const options = { resultTypes: ['violations'] };
    return (await axe.run({ include: shown.map((place) => [place]) }, options)).violations;
}"""
STILL = "*, *::before, *::after { transition: none !important; animation: none !important }"
"""Colours fade in, and axe would measure them on the way."""
FORGET = """() => Object.keys(localStorage)
    .filter((key) => key.startsWith('modelmill.'))
    .forEach((key) => localStorage.removeItem(key))"""
HIDDEN = """() => Math.max(...[...document.querySelectorAll('.mm-root, .mm-dialog')].map((one) => {
    const { left, right } = one.getBoundingClientRect();
    const outside = one.matches('.mm-dialog') ? Math.max(-left, right - innerWidth) : 0;
    return Math.max(outside, one.scrollWidth - one.clientWidth);
}))"""
OPEN = "document.querySelectorAll('.mm-root details').forEach((one) => { one.open = true; })"


def found(page: Page) -> list[Any]:
    """What axe finds, and how many pixels stand where nobody can scroll to."""
    page.wait_for_timeout(100)  # what follows the window's size has done so
    lines = [
        (item["id"], item["impact"], [node["html"][:160] for node in item["nodes"]][:3])
        for item in page.evaluate(RUN)
    ]
    hidden = page.evaluate(HIDDEN)
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


@pytest.mark.timeout(5400)
@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.usefixtures("queue")
def test_axe_finds_nothing(page: Page, language: str, rules: Path, pipelines: Path) -> None:
    if not AXE.exists():
        pytest.skip("axe-core comes with the canvas's packages: ./run canvas")
    (rules / "mail.yaml").write_text(RULES)
    (pipelines / "grouped.yaml").write_text(DRAWN.replace("pipeline: desks", "pipeline: grouped"))
    (pipelines / "asks.yaml").write_text(ASKS)
    page.add_init_script(f"localStorage.setItem('i18nextLng', '{language}')")
    page.on("dialog", lambda dialog: dialog.accept())  # "leave the page?"
    is_long = bool(os.environ.get("MODELMILL_LONG_TESTS"))
    ways = [
        (width, height, colours)
        for size, (width, height) in SIZES.items()
        for colours in ("light", "dark")
        if is_long or (size, colours) in ALWAYS
    ]
    views = SELDOM | OFTEN if is_long else dict([*OFTEN.items()][LANGUAGES.index(language) :: len(LANGUAGES)])
    wanted = re.compile(os.environ.get("MODELMILL_VIEWS", ""))
    views = {place: open_it for place, open_it in views.items() if wanted.search(place)}
    wrong: dict[str, Any] = {}
    for place, open_it in views.items():
        page.unroute_all(behavior="ignoreErrors")
        route_answers(page, of_two_runs(WORDS) | of_a_model(WORDS) | of_a_day(WORDS))
        page.evaluate(FORGET)  # no view begins with a draft of the one before
        wrong |= wrong_in(page, place, open_it, ways)
    print(f"{language}: {len(views)} views in {len(ways)} ways, something wrong in {len(wrong)}", flush=True)
    assert wrong == {}


def wrong_in(
    page: Page, place: str, open_it: Callable[[Page], None], ways: Sequence[tuple[int, int, str]]
) -> dict[str, Any]:
    """Open a view, and look at it in several ways."""
    page.set_viewport_size({"width": 1440, "height": 900})
    try:
        open_it(page)
    except Error as error:  # the others are looked at, all the same
        print(place, "does not open:", error, flush=True)
        return {place: str(error)[:400]}
    page.evaluate(OPEN)
    page.add_script_tag(path=AXE)
    page.add_style_tag(content=STILL)
    wrong = {}
    for width, height, colours in ways:
        page.set_viewport_size({"width": width, "height": height})
        page.emulate_media(color_scheme=colours)  # type: ignore[arg-type] # one of two words
        page.wait_for_function("name => document.documentElement.classList.contains(name)", arg=colours)
        problems = found(page)
        print(f"{place}, {width} pixels, {colours}: {problems or 'nothing'}", flush=True)
        if problems:
            wrong[f"{place}, {width} pixels, {colours}"] = problems
    return wrong
