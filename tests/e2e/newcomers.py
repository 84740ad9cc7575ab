"""Somebody who sees the page for the first time: what they press, and how often."""

from __future__ import annotations

import re

from demo.servers import LocalAirflow
from playwright.sync_api import Browser, Page, expect

RUN_MILLISECONDS = 1_500_000
COUNT = """addEventListener('click', (event) => {
    if (!event.isTrusted || event.detail === 0) return;  // a key's click has no detail
    const before = JSON.parse(localStorage.getItem('clicks') ?? '[]');
    const { textContent, name, tagName } = event.target;
    const target = (textContent || name || tagName).slice(0, 60);
    localStorage.setItem('clicks', JSON.stringify([...before, target]));
}, true);"""
FOCUSED = """() => {
    const one = document.activeElement;
    const label = one.labels?.[0]?.textContent ?? '';
    return `${one.tagName} ${one.getAttribute('aria-label') ?? (label || one.textContent)}`.trim();
}"""
MOST_STOPS = 60
"""Stops of the Tab key before a person gives up."""
PATIENCE = 60_000


def newcomer(browser: Browser, airflow: LocalAirflow) -> Page:
    """Open a browser in which nobody has logged in yet, on a usual screen; it counts clicks."""
    context = browser.new_context(base_url=airflow.url, viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.add_init_script(COUNT)
    page.goto("/")
    return page


def clicks(page: Page) -> list[str]:
    """Return what was clicked at."""
    found: list[str] = page.evaluate("JSON.parse(localStorage.getItem('clicks') ?? '[]')")
    return found


def choose(page: Page, label: str, value: str) -> None:
    """Choose from a list: two clicks, for which a browser without a screen opens nothing."""
    page.get_by_label(label, exact=True).select_option(value)
    page.evaluate(
        "([before, label]) => localStorage.setItem('clicks', JSON.stringify([...before, label, label]))",
        [clicks(page), label],
    )


def log_in(page: Page, airflow: LocalAirflow) -> None:
    page.fill("input[name=username]", airflow.user)
    page.fill("input[name=password]", airflow.password)
    page.click("button[type=submit]")


def open_gallery(page: Page) -> None:
    """Open the page that lists templates: where something happened lately, behind a button."""
    page.get_by_role("link", name="modelmill", exact=True).first.click()
    begin = page.get_by_role("button", name="Begin something new")
    begin.or_(page.get_by_role("region", name="Templates")).first.wait_for()
    if begin.is_visible():
        begin.click()


def wait_for_end(page: Page) -> None:
    state = page.locator(".mm-run-head .mm-badge")
    expect(state).to_have_text(re.compile("success|failed"), timeout=RUN_MILLISECONDS)
    assert state.inner_text() == "success", page.locator(".mm-run").inner_text()


def expect_how_good_it_is(page: Page) -> None:
    """Expect that the result has opened by itself, and that its first sentence stands on the screen."""
    result = page.locator(".mm-result")
    result.get_by_role("table", name="Checks").wait_for()
    sentence = result.get_by_text(re.compile(r"\d % right on \d+ test rows"))
    expect(sentence).to_be_in_viewport()
    expect(page.locator("[data-step=verdict]")).to_be_in_viewport(ratio=0.9)


def tab_to(page: Page, name: str) -> None:
    """Press the Tab key until what has the focus has a name; ``name``: a pattern of tag and name."""
    seen = []
    for _ in range(MOST_STOPS):
        page.keyboard.press("Tab")
        seen.append(str(page.evaluate(FOCUSED))[:80])
        if re.match(name, seen[-1]):
            return
    raise AssertionError(f"Tab does not come to {name!r}, but to {seen}")
