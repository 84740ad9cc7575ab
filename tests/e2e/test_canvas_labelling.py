"""People label rows on a page, with a key each; nothing is lost, and payloads in rows do not run."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from demo.servers import LocalAirflow
from playwright.sync_api import Browser, Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.airflow]

LABELLING = "/plugin/modelmill/labelling"
HOSTILE = "<img src=x onerror=xss()><svg onload=xss()></textarea><script>xss()</script>"


@pytest.fixture(scope="module", name="suspects")
def _suspects(home: Path) -> Path:
    """What rank_label_errors leaves, with markup in every text."""
    count = 24
    table = {
        "ticket": [f"{HOSTILE} T{number}" for number in range(count)],
        "message": [f"{HOSTILE} The lorry is late, number {number}" for number in range(count)],
        "desk": [HOSTILE if number == 0 else ("sport", "trade")[number % 2] for number in range(count)],
        "suggested_label": [("trade", "sport")[number % 2] for number in range(count)],
        f"{HOSTILE} column": ["x"] * count,
    }
    write_deltalake(str(home / "data" / "suspects"), pa.table(table))
    return home


def put_forward(page: Page, name: str, **fields: str) -> None:
    page.goto(LABELLING)
    form = page.get_by_role("form", name="Put rows forward")
    values = {"Table": "${data}/suspects", "Column with the key": "ticket", "Column to read": "message"}
    form.get_by_text("More", exact=True).click()
    for label, value in {**values, "Name of the queue": name, **fields}.items():
        form.get_by_label(label, exact=True).fill(value)
    form.get_by_role("button", name="Put forward").click()
    page.get_by_role("region", name="Row to label").wait_for()


def labels(home: Path, name: str) -> list[tuple[str, Any]]:
    rows = DeltaTable(str(home / "home" / "labelling" / name / "labels")).to_pyarrow_table().sort_by("when")
    return [(row["key"].rpartition(" ")[2], row["label"]) for row in rows.to_pylist()]


def shown(page: Page) -> str:
    return page.get_by_label("Text of the row").inner_text().rpartition(" ")[2]


def test_rows_are_labelled_with_a_key_each(
    page: Page, suspects: Path, serious: Callable[[Page], list[Any]]
) -> None:
    calls = itertools.count()
    page.expose_function("xss", lambda: next(calls))
    put_forward(page, "by_key", Classes="sport, trade")
    expect(page.get_by_label("Text of the row")).to_contain_text("<img src=x onerror=xss()>")
    assert shown(page) == "0"
    page.keyboard.press("1")
    expect(page.get_by_label("Text of the row")).to_contain_text("number 1")
    page.keyboard.press("2")
    expect(page.get_by_label("Text of the row")).to_contain_text("number 2")
    page.keyboard.press("s")
    expect(page.get_by_label("Text of the row")).to_contain_text("number 3")
    page.keyboard.press("u")
    expect(page.get_by_label("Text of the row")).to_contain_text("number 2")
    page.keyboard.press("u")
    expect(page.get_by_label("Text of the row")).to_contain_text("number 1")
    page.keyboard.press("1")
    expect(page.get_by_label("Saved")).to_have_text("All that you did is saved.")
    expect(page.get_by_role("complementary", name="Progress")).to_contain_text("2 of 24 rows labelled")
    assert labels(suspects, "by_key") == [("T0", "sport"), ("T1", "trade"), ("T1", None), ("T1", "sport")]
    assert serious(page) == []
    # The classes of the table, one of which is markup, are buttons.
    put_forward(page, "markup")
    expect(page.get_by_role("group", name="desk").get_by_role("button")).to_have_count(3)
    page.goto(LABELLING)
    page.get_by_role("link", name=re.compile("^markup")).wait_for()
    assert serious(page) == []
    assert next(calls) == 0


def test_a_page_that_is_closed_in_the_middle_loses_nothing(page: Page, suspects: Path) -> None:
    # Before the page is there: chromium may let a request pass that follows a new route at once.
    page.route("**/labelling/closed/labels", lambda route: route.abort())
    put_forward(page, "closed", Classes="sport, trade")
    page.keyboard.press("1")
    page.keyboard.press("2")
    expect(page.get_by_label("Saved")).to_contain_text("2 not saved yet")
    expect(page.get_by_role("alert")).to_contain_text("Airflow does not answer")
    assert labels(suspects, "closed") == []
    page.unroute("**/labelling/closed/labels")
    page.reload()
    page.get_by_role("region", name="Row to label").wait_for()
    expect(page.get_by_label("Saved")).to_have_text("All that you did is saved.")
    expect(page.get_by_label("Text of the row")).to_contain_text("number 2")
    assert labels(suspects, "closed") == [("T0", "sport"), ("T1", "trade")]


def test_sets_and_numbers(page: Page, suspects: Path) -> None:
    page.goto(LABELLING)
    page.get_by_label("A label is").select_option("set")
    form = page.get_by_role("form", name="Put rows forward")
    filled = {"Table": "${data}/suspects", "Column with the key": "ticket", "Column to read": "message"}
    for label, value in (filled | {"Name of the queue": "sets", "Classes": "a, b, c"}).items():
        form.get_by_label(label, exact=True).fill(value)
    form.get_by_role("button", name="Put forward").click()
    page.get_by_role("region", name="Row to label").wait_for()
    for key in ("3", "1", "2", "2", "Enter"):
        page.keyboard.press(key)
    expect(page.get_by_label("Text of the row")).to_contain_text("number 1")
    page.get_by_role("button", name="None of them").click()
    expect(page.get_by_label("Saved")).to_have_text("All that you did is saved.")
    assert labels(suspects, "sets") == [("T0", ["a", "c"]), ("T1", [])]
    page.goto(LABELLING)
    page.get_by_label("A label is").select_option("number")
    for label, value in (filled | {"Name of the queue": "numbers"}).items():
        form.get_by_label(label, exact=True).fill(value)
    form.get_by_role("button", name="Put forward").click()
    box = page.get_by_label(re.compile("a number$"))
    box.fill("many")
    expect(page.get_by_role("button", name="Keep")).to_be_disabled()
    box.fill("3,5")
    box.press("Enter")
    expect(page.get_by_label("Saved")).to_have_text("All that you did is saved.")
    assert labels(suspects, "numbers") == [("T0", 3.5)]


def test_what_was_not_taken_is_said_before_the_queue_opens(page: Page, home: Path) -> None:
    rows = {
        "ticket": ["A", "A", None, "B", "C"],
        "message": ["one", "one again", "two", "", "three"],
        "desk": ["sport", "trade", "sport", "trade", "sport"],
    }
    write_deltalake(str(home / "data" / "gaps"), pa.table(rows))
    page.goto(LABELLING)
    form = page.get_by_role("form", name="Put rows forward")
    fields = {"Table": "${data}/gaps", "Column with the key": "ticket", "Column to read": "message"}
    for label, value in (fields | {"Name of the queue": "gaps", "Classes": "sport, trade"}).items():
        form.get_by_label(label, exact=True).fill(value)
    put = form.get_by_role("button", name="Put forward")
    put.click()
    said = form.get_by_role("status")
    expect(said).to_contain_text("2 rows were added.")
    expect(said).to_contain_text(
        "3 rows were left out: they have no key or no text, or the key of an earlier"
    )
    form.get_by_text("More", exact=True).click()
    form.get_by_label("Second opinion, percent of the rows").fill("50")
    put.click()
    expect(said).to_contain_text("They are there already.")
    expect(said).to_contain_text("gaps keeps its second opinion of 0 percent.")
    said.get_by_role("link", name="Label them").click()
    expect(page.get_by_role("complementary", name="Progress")).to_contain_text("0 of 2 rows labelled")


def test_a_class_is_searched_for_among_many(page: Page, suspects: Path) -> None:
    put_forward(page, "many", Classes=", ".join(f"desk {number}" for number in range(40)))
    classes = page.get_by_role("group", name="desk").get_by_role("button")
    expect(classes).to_have_count(40)
    box = page.get_by_role("searchbox", name="Find a class")
    box.press_sequentially("DESK 3")  # its letters are no keys of the page: s would skip the row
    expect(classes).to_have_count(11)
    box.press_sequentially("7")
    expect(classes).to_have_text(["desk 37"])
    classes.click()
    expect(page.get_by_label("Text of the row")).to_contain_text("number 1")
    expect(box).to_have_value("")
    expect(page.get_by_label("Saved")).to_have_text("All that you did is saved.")
    assert labels(suspects, "many") == [("T0", "desk 37")]


FULL = "() => { Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError'); } }"


def test_leaving_asks_only_where_an_act_would_be_lost(page: Page, suspects: Path) -> None:
    asked: list[str] = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.dismiss()))
    page.route("**/labelling/leaving/labels", lambda route: route.abort())
    put_forward(page, "leaving", Classes="sport, trade")
    page.keyboard.press("1")
    expect(page.get_by_label("Saved")).to_contain_text("1 not saved yet; they are kept in this browser.")
    page.reload()  # the browser keeps it: nobody is asked
    expect(page.get_by_label("Saved")).to_contain_text("1 not saved yet; they are kept in this browser.")
    assert asked == []
    page.evaluate(FULL)
    page.keyboard.press("2")
    expect(page.get_by_label("Saved")).to_contain_text("leave this page open until they are saved")
    with page.expect_event("dialog"):
        page.close(run_before_unload=True)
    assert asked == ["beforeunload"]
    page.unroute("**/labelling/leaving/labels")
    page.keyboard.press("1")
    expect(page.get_by_label("Saved")).to_have_text("All that you did is saved.")
    page.reload()
    assert asked == ["beforeunload"]
    assert [label for _, label in labels(suspects, "leaving")] == ["sport", "trade", "sport"]


@pytest.fixture(name="viewer")
def _viewer(browser: Browser, airflow: LocalAirflow) -> Any:
    """Somebody who may look and not change, logged in."""
    context = browser.new_context(base_url=airflow.url, viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.goto(airflow.url)
    page.fill("input[name=username]", "looker")
    page.fill("input[name=password]", "another password of these tests")
    page.click("button[type=submit]")
    page.get_by_role("link", name="Dags", exact=True).wait_for()
    yield page
    context.close()


def test_a_viewer_sees_and_cannot_edit(page: Page, viewer: Page, suspects: Path) -> None:
    put_forward(page, "looked_at", Classes="sport, trade")
    page.keyboard.press("1")
    expect(page.get_by_label("Saved")).to_have_text("All that you did is saved.")
    viewer.goto(LABELLING)
    button = viewer.get_by_role("button", name="Put forward")
    expect(button).to_be_disabled()
    expect(button).to_have_attribute("title", re.compile("may look at the queues"))
    viewer.get_by_role("link", name=re.compile("^looked_at")).click()
    expect(viewer.get_by_text("may look at this queue, not label")).to_be_visible()
    expect(viewer.get_by_role("complementary", name="Progress")).to_contain_text("1 of 24 rows labelled")
    assert viewer.get_by_role("region", name="Row to label").count() == 0
    assert HOSTILE not in viewer.locator(".mm-labelling").inner_text()
    viewer.goto("/plugin/modelmill/canvas/small")
    for name in ("Save", "Run"):
        button = viewer.get_by_role("toolbar").get_by_role("button", name=name, exact=True)
        expect(button).to_be_disabled()
        expect(button).to_have_attribute("title", re.compile("Your role in Airflow may look"))
