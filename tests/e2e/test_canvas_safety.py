"""The canvas against those who write markup into what it shows."""

from __future__ import annotations

import itertools
from pathlib import Path

import pyarrow as pa
import pytest
import yaml
from deltalake import write_deltalake
from playwright.sync_api import Dialog, Page, expect
from tests.e2e.answers import of_a_model, of_two_runs, route_answers

pytestmark = [pytest.mark.browser, pytest.mark.airflow]

PAYLOADS = (
    "<script>xss()</script>",
    "<img src=x onerror=xss()>",
    "<svg onload=xss()>",
    "<svg><script>xss()</script></svg>",
    "<iframe srcdoc='<script>parent.xss()</script>'></iframe>",
    "<iframe src=javascript:xss()></iframe>",
    "<a href=javascript:xss() autofocus onfocus=xss()>x</a>",
    "<body onload=xss()>",
    "<input autofocus onfocus=xss()>",
    "<details open ontoggle=xss()>",
    "<video><source onerror=xss()></video>",
    "<audio src=x onerror=xss()>",
    "<object data=javascript:xss()></object>",
    "<embed src=javascript:xss()>",
    "<marquee onstart=xss()>",
    "<math><mtext><img src=x onerror=xss()></mtext></math>",
    "<style>@keyframes x{}</style><p style='animation:x' onanimationstart=xss()>",
    "<link rel=stylesheet href=javascript:xss()>",
    "<meta http-equiv=refresh content='0;url=javascript:xss()'>",
    "<base href=javascript:xss()//>",
    "<form action=javascript:xss()><button autofocus>x</button></form>",
    '"><img src=x onerror=xss()>',
    "'><img src=x onerror=xss()>",
    "</textarea><img src=x onerror=xss()>",
    "</script><script>xss()</script>",
    "javascript:xss()",
    "data:text/html,<script>xss()</script>",
    "{{constructor.constructor('xss()')()}}",
    "${xss()}",
    "<template><img src=x onerror=xss()></template><img src onerror=xss()>",
)


def hostile() -> str:
    """A pipeline with every payload in seven places that the pages show."""
    steps = {
        f"s{number}": {
            "component": payload,
            "inputs": {"table": payload},
            "config": {"uri": payload, payload: payload},
            "when": {payload: "refused", f"t{number}": payload},
        }
        for number, payload in enumerate(PAYLOADS)
    }
    tables = {
        f"t{number}": {"component": "delta_table", "config": {"uri": payload}}
        for number, payload in enumerate(PAYLOADS)
    }
    groups = {
        payload: {"description": payload, "steps": [f"s{number}"], "for_each": {payload: [payload]}}
        for number, payload in enumerate(PAYLOADS)
    }
    params = {f"p{number}": {"default": text, "description": text} for number, text in enumerate(PAYLOADS)}
    document = {
        "pipeline": "hostile",
        "description": " ".join(PAYLOADS),
        "schedule": PAYLOADS[0],
        "tags": list(PAYLOADS),
        "params": params,
        "groups": groups,
        "steps": {**steps, **tables},
    }
    return yaml.safe_dump(document, sort_keys=False)


def test_no_payload_runs(page: Page, pipelines: Path) -> None:
    assert len(PAYLOADS) == 30
    calls = itertools.count()
    page.expose_function("xss", lambda: next(calls))

    def answer(dialog: Dialog) -> None:
        if dialog.type != "beforeunload":  # that one is the canvas's own: there is something to save
            next(calls)
        dialog.accept()

    page.on("dialog", answer)
    file = pipelines / "hostile.yaml"
    file.write_text(hostile())
    try:
        page.goto("/plugin/modelmill/pipelines")
        page.get_by_role("link", name="hostile").click()
        page.locator(".mm-node").first.wait_for()
        page.get_by_role("button", name="Graph and text").click()
        page.get_by_role("region", name="Problems").wait_for()
        page.get_by_role("button", name="Fit View").click()
        for name in ("s0", "s1", "t1", "t23"):
            page.locator(f".react-flow__node[data-id={name}]").evaluate("node => node.click()")
            page.get_by_label("Step", exact=True).wait_for()
        page.locator(".mm-frame-head .mm-node-id").first.click()
        page.get_by_label("Variable", exact=True).wait_for()
        # All at once, in each field that takes text.
        for field in page.locator(".mm-inspector input:visible, .mm-palette input:visible").all():
            field.fill(" ".join(PAYLOADS))
        page.get_by_role("toolbar").get_by_role("button", name="Save").click()
        page.get_by_role("dialog").get_by_label("Changes").wait_for()
        page.get_by_role("dialog").get_by_role("textbox").fill(PAYLOADS[1])
        page.get_by_role("dialog").get_by_role("button", name="Save", exact=True).click()
        page.get_by_role("alert").first.wait_for()
        page.goto("/plugin/modelmill/one-click")
        page.get_by_label("Path or URI").fill(PAYLOADS[1])
        page.get_by_role("alert").first.wait_for()
    finally:
        file.unlink()
    assert next(calls) == 0


def test_no_payload_runs_in_what_a_run_shows(page: Page) -> None:
    """Edge, cards, comparison, ask box, labelling: the answers are this test's, the page is the real one."""
    calls = itertools.count()
    page.expose_function("xss", lambda: next(calls))
    page.on("dialog", lambda dialog: (next(calls), dialog.dismiss()))
    route_answers(page, of_two_runs(PAYLOADS))
    page.goto("/plugin/modelmill/canvas/small")
    page.locator('[data-id="raw.table>dataset.table"]').press("Enter")
    page.get_by_role("table", name="First rows").wait_for()
    page.locator("select[aria-label=Run]").select_option("two")
    page.locator("[data-step=raw] .mm-node-head").click()
    page.get_by_role("table", name="Mistakes").wait_for()
    page.get_by_role("button", name="Send to labelling").first.click()
    page.get_by_role("link", name="Label them").wait_for()
    page.get_by_role("button", name="Compare", exact=True).click()
    page.get_by_role("dialog").get_by_role("table", name="Parameters").wait_for()
    page.keyboard.press("Escape")
    assert page.locator(".mm-result img, .mm-result svg, .mm-result script, .mm-dialog img").count() == 0
    assert page.locator("a[href^='javascript:']").count() == 0
    assert next(calls) == 0


def test_no_payload_runs_in_what_a_model_answers(page: Page) -> None:
    """The ask box and the nights of a model, with markup in each text that a registry could hold."""
    calls = itertools.count()
    page.expose_function("xss", lambda: next(calls))
    route_answers(page, of_a_model(PAYLOADS))
    page.goto("/plugin/modelmill/models/m")
    good = page.get_by_role("region", name="How good it is")
    good.get_by_role("table", name="Mistakes").wait_for()
    assert good.locator("img, script, iframe").count() == 0
    box = page.get_by_role("region", name="Ask it")
    box.get_by_label("Text to ask about").fill(" ".join(PAYLOADS))
    box.get_by_role("button", name="Ask", exact=True).click()
    box.get_by_text("Version 1:").wait_for()
    assert box.locator("img, script, iframe").count() == 0
    assert page.locator("a[href^='javascript:']").count() == 0
    assert next(calls) == 0


FOLDER = "<img src=x onerror=xss()>"
DROP = """(element, name) => {
    const data = new DataTransfer();
    data.items.add(new File(['x'], name, { type: 'image/png' }));
    for (const type of ['dragenter', 'dragover', 'drop'])
        element.dispatchEvent(new DragEvent(type, { dataTransfer: data, bubbles: true, cancelable: true }));
}"""


def test_no_payload_runs_in_tables_classes_and_names_of_files(page: Page, home: Path) -> None:
    """A real table whose place, columns, keys, texts and classes are markup, on each page that shows one."""
    calls = itertools.count()
    page.expose_function("xss", lambda: next(calls))
    page.on("dialog", lambda dialog: (next(calls), dialog.dismiss()))
    count = len(PAYLOADS)
    rows = {name: list(PAYLOADS) for name in ("ticket", "message", "desk")}
    rows["suggested_label"] = list(reversed(PAYLOADS))
    rows |= {f"{payload} {number}": ["x"] * count for number, payload in enumerate(PAYLOADS)}
    write_deltalake(str(home / "data" / FOLDER), pa.table(rows))

    page.goto("/plugin/modelmill/one-click")
    page.get_by_label("Path or URI").fill(f"${{data}}/{FOLDER}")
    page.get_by_label("Label", exact=True).select_option("desk")
    expect(page.get_by_role("group", name="Rows by class")).to_contain_text(f"{count} classes")
    page.get_by_text("A small model for each of several columns").click()
    page.get_by_role("group", name="Labels").get_by_text(f"{PAYLOADS[1]} 1", exact=True).wait_for()

    page.goto("/plugin/modelmill/labelling")
    form = page.get_by_role("form", name="Put rows forward")
    fields = {"Table": f"${{data}}/{FOLDER}", "Column with the key": "ticket", "Column to read": "message"}
    for label, value in (fields | {"Name of the queue": "hostile"}).items():
        form.get_by_label(label, exact=True).fill(value)
    form.get_by_role("button", name="Put forward").click()
    row = page.get_by_role("region", name="Row to label")
    classes = row.get_by_role("group", name="desk").get_by_role("button")
    classes.nth(count - 1).wait_for()
    assert sorted(text.lstrip("123456789").strip() for text in classes.all_inner_texts()) == sorted(PAYLOADS)
    classes.nth(3).click()
    expect(page.get_by_label("Text of the row")).to_have_text(PAYLOADS[1])

    page.goto("/plugin/modelmill/rules")
    with page.expect_response(lambda answer: "/tables/preview" in answer.url):
        page.get_by_label("Table to try it on").fill(f"${{data}}/{FOLDER}")
    page.get_by_label("Rule set (YAML)").press("Control+End")
    page.get_by_label("Rule set (YAML)").press("Control+Space")

    # Pictures that are dropped, with markup as their names.
    route_answers(page, of_a_model(("sport", "trade")))
    page.goto("/plugin/modelmill/models/m")
    page.get_by_label("Text to ask about").evaluate(DROP, f"{FOLDER}.png")
    expect(page.get_by_role("region", name="Ask it").get_by_text(f"{FOLDER}.png")).to_be_visible()
    page.goto("/plugin/modelmill/canvas/small")
    page.locator("[data-step=dataset]").wait_for()
    page.locator(".mm-graph .react-flow").evaluate(DROP, f"{FOLDER}.png")
    page.locator("[data-step=dataset]").wait_for()
    page.wait_for_timeout(300)
    assert next(calls) == 0
