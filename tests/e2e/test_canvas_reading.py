"""What a person reads on the graph: figures, edges that can be followed, how far a running step is."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from playwright.sync_api import Page, Route, expect
from tests.e2e.answers import question, route_answers, verdict

from modelmill.workspace import Units

pytestmark = [pytest.mark.browser, pytest.mark.airflow]

TEN = """
pipeline: ten
steps:
  raw: {component: delta_table, config: {uri: "${data}/tickets"}}
  dataset: {component: build_dataset, inputs: {table: raw.table}, config: {text: message, labels: [desk]}}
  teacher:
    {component: fine_tune, inputs: {dataset: dataset.dataset}, config: {base_model: "${base_model}"}}
  student: {component: distill, inputs: {dataset: dataset.dataset, teacher: teacher.model}}
  exported: {component: quantize, inputs: {dataset: dataset.dataset, model: student.model}}
  report:
    component: evaluate
    inputs: {dataset: dataset.dataset, models: [teacher.model, student.model, exported.model]}
  verdict:
    component: gate
    inputs: {dataset: dataset.dataset, challenger: exported.model}
    config: {name: ten}
  champion: {component: promote, inputs: {verdict: verdict.verdict}}
  scored:
    component: score_table
    inputs: {table: raw.table, model: champion.model}
    config: {to: "${data}/scored"}
  notes: {component: build_dataset, inputs: {table: raw.table}, config: {text: message, labels: [desk]}}
params:
  data: {description: Folder of the tables}
  base_model: {description: The large model}
"""
STEPS = re.findall(r"^  (\w+):", TEN.partition("params:")[0], re.MULTILINE)
CANVAS = "/plugin/modelmill/canvas/ten"

CUT = """() => [...document.querySelectorAll('.mm-node-line')]
    .filter((one) => one.scrollHeight > one.clientHeight + 1 || one.scrollWidth > one.clientWidth + 1)
    .map((one) => one.textContent)"""
OVERLAPS = """() => {
    const parts = [...document.querySelectorAll('.mm-node, .mm-node-state')];
    const boxes = parts.map((one) => [one, one.getBoundingClientRect()]);
    return boxes.flatMap(([one, a]) => boxes
        .filter(([other]) => !one.contains(other) && !other.contains(one))
        .filter(([, b]) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom)
        .map(([other]) => [one.textContent, other.textContent]));
}"""
BEHIND = """() => {
    const steps = [...document.querySelectorAll('.mm-node')];
    const boxes = steps.map((one) => [one.dataset.step, one.getBoundingClientRect()]);
    return [...document.querySelectorAll('.react-flow__edge')].flatMap((edge) => {
        const path = edge.querySelector('.react-flow__edge-path');
        const matrix = path.getScreenCTM();
        const length = path.getTotalLength();
        const found = new Set();
        for (let at = 14; at < length - 14; at += 4) {
            const { x, y } = path.getPointAtLength(at).matrixTransform(matrix);
            for (const [step, box] of boxes)
                if (x > box.left + 2 && x < box.right - 2 && y > box.top + 2 && y < box.bottom - 2)
                    found.add(step);
        }
        return [...found].map((step) => `${edge.dataset.id} behind ${step}`);
    });
}"""
"""The edges that run behind a step: their own ones count too, but for the ends."""


def run_of(states: dict[str, str]) -> dict[str, Any]:
    node = {
        "value": None,
        "try_number": 1,
        "max_tries": 1,
        "end": None,
        "duration": 83.0,
        "outputs": {},
        "start": "2026-11-29T00:00:00Z",
        "step_key": "k",
        "mlflow_run": "",
        "mlflow_url": "",
        "log_url": "",
        "reused": False,
    }
    nodes = [{**node, "step": step, "of": step, "state": states.get(step, "success")} for step in STEPS]
    state = "running" if "running" in states.values() else "success"
    summary = {
        "run_id": "one",
        "state": state,
        "run_type": "manual",
        "user": "admin",
        "params": {},
        "digest": "d",
    }
    times = {"queued": "2026-11-29T00:00:00Z", "start": "2026-11-29T00:00:00Z", "end": None}
    return {**summary, **times, "nodes": nodes}


def figures() -> dict[str, Any]:
    """Of a table of ten million rows: as long as figures get."""
    measured = {
        f"{name}/{model}": value
        for model in ("teacher", "student", "exported")
        for name, value in {"accuracy": 0.97856, "documents_per_second": 12540.2, "size_mb": 1091.42}.items()
    }
    steps: dict[str, dict[str, float]] = {
        "raw": {"rows_out": 10_767_400},
        "dataset": {"rows_in": 10_767_400, "rows_out": 10_760_412},
        "notes": {"rows_in": 7_674, "rows_out": 7_604},
        "scored": {"bytes": 123_456_789_012},
        "champion": {"validation_accuracy": 0.97856},
        "report": measured,
    }
    return {step: {"run_id": "r", "status": "FINISHED", "metrics": found} for step, found in steps.items()}


def progress(what: str, done: int, total: int, left: int, **more: float) -> dict[str, Any]:
    told = {"share": done / total, "done": done, "total": total, "what": what, "seconds_left": left}
    return {"lines": [], "cut": False, "progress": {**told, "figures": more}, "said": ""}


def saying(text: str) -> dict[str, Any]:
    return {"lines": [], "cut": False, "progress": None, "said": text}


@pytest.fixture(name="ten")
def _ten(page: Page, pipelines: Path) -> Callable[..., Page]:
    """``ten(states, **answers)``: a pipeline of ten steps with a run, on a usual screen."""
    (pipelines / "ten.yaml").write_text(TEN)

    def opened(states: dict[str, str], answers: dict[str, Any] | None = None) -> Page:
        run, base = run_of(states), "/pipelines/ten/runs"
        route_answers(
            page, {base: [run], f"{base}/one": run, f"{base}/one/metrics": figures(), **(answers or {})}
        )
        page.set_viewport_size({"width": 1440, "height": 900})
        page.goto(CANVAS)
        expect(page.locator(".mm-node-state").first).to_be_visible()
        return page

    return opened


@pytest.mark.parametrize("zoom", ["100 %", "fitted"])
def test_figures_of_a_step_are_read_whole(ten: Callable[..., Page], zoom: str) -> None:
    page = ten({})
    if zoom == "fitted":
        page.get_by_role("button", name="Arrange automatically").click()
        page.wait_for_timeout(600)
        assert page.locator(".mm-node").count() == len(STEPS)
    line = page.locator("[data-step=dataset] .mm-node-line")
    expect(line).to_have_text("10,760,412 of 10,767,400 rows")
    assert line.get_attribute("title") == "10,760,412 of 10,767,400 rows"
    assert page.locator(".mm-node-line").count() >= 5
    assert page.evaluate(CUT) == []
    assert page.evaluate(OVERLAPS) == []


def test_no_edge_runs_behind_a_step(ten: Callable[..., Page]) -> None:
    page = ten({})
    page.get_by_role("button", name="Arrange automatically").click()
    page.wait_for_timeout(600)
    assert page.locator(".react-flow__edge").count() == 16
    assert page.evaluate(BEHIND) == []
    # One that is dragged to where its edges run backwards, and others run over it.
    student, raw = (
        page.locator("[data-step=student]").bounding_box(),
        page.locator("[data-step=raw]").bounding_box(),
    )
    assert student is not None
    assert raw is not None
    page.mouse.move(student["x"] + 80, student["y"] + 12)
    page.mouse.down()
    page.mouse.move(raw["x"] + 100, raw["y"] + raw["height"] + 90, steps=8)
    page.mouse.up()
    page.wait_for_timeout(300)
    assert page.evaluate(BEHIND) == []


def test_a_step_says_in_words_how_far_it_is(
    ten: Callable[..., Page], serious: Callable[[Page], list[Any]]
) -> None:
    base = "/pipelines/ten/runs/one/steps"
    page = ten(
        {"teacher": "running", "student": "running", "report": "running", "scored": "running"},
        {
            f"{base}/teacher/log": progress(
                "training steps", 1200, 3000, 130, loss=0.1234, epoch=2, epochs=5
            ),
            f"{base}/student/log": progress("teacher's answers", 124_000, 330_000, 5000),
            f"{base}/report/log": saying(""),
            f"{base}/scored/log": saying(
                "10,760,412 rows are read and checked; copies of them are looked for"
            ),
        },
    )
    expect(page.locator("[data-step=teacher] .mm-node-line")).to_have_text(
        "40 % of the training steps, about 2 min left"
    )
    expect(page.locator("[data-step=student] .mm-node-line")).to_have_text(
        "38 % of the teacher's answers, 1 h 23 min left"
    )
    expect(page.locator("[data-step=scored] .mm-node-line")).to_have_text(
        "10,760,412 rows are read and checked; copies of …"
    )
    assert page.evaluate(CUT) == []
    page.locator("[data-step=teacher] .mm-node-head").click()
    panel = page.get_by_role("region", name="Run", exact=True)
    expect(panel).to_contain_text(
        "1,200 of 3,000 training steps (40 %), epoch 2 of 5, training loss 0.123, about 2 min left"
    )
    page.locator("[data-step=report] .mm-node-head").click()
    expect(panel).to_contain_text("at work; it has not said how far it is")
    assert serious(page) == []


def test_a_step_that_waits_for_a_person_is_answered_where_it_is_seen(ten: Callable[..., Page]) -> None:
    page = ten({"verdict": "awaiting_input"}, {})
    sent: list[Any] = []

    def ask(route: Route) -> None:
        if route.request.method == "PATCH":
            sent.append(route.request.post_data_json)
        route.fulfill(json=question(["Promote it?"]))

    page.route("**/hitlDetails*", ask)
    expect(page.locator("[data-step=verdict] .mm-badge")).to_contain_text("waits for an answer")
    page.locator("[data-step=verdict] .mm-node-head").click()
    asked = page.get_by_role("region", name="Question")
    asked.get_by_label("Reason (goes into the ledger)").fill("looked at")
    asked.get_by_role("button", name="Approve").click()
    expect(asked.get_by_role("status")).to_contain_text("Answered: Approve")
    assert sent == [{"chosen_options": ["Approve"], "params_input": {"reason": "looked at"}}]


@pytest.mark.parametrize("language", ["en", "zh-CN"])
@pytest.mark.parametrize("what", get_args(Units))
def test_how_far_it_is_has_room_on_its_node(
    ten: Callable[..., Page], page: Page, language: str, what: str
) -> None:
    """The longest that can be said: each unit, hours left, and a long value before it."""
    page.add_init_script(f"localStorage.setItem('i18nextLng', '{language}')")
    base = "/pipelines/ten/runs/one/steps"
    lefts = {"teacher": 20, "student": 3000, "report": 359_000}
    logs = {f"{base}/{step}/log": progress(what, 124_000, 330_000, left) for step, left in lefts.items()}
    page = ten(dict.fromkeys(lefts, "running"), logs)
    expect(page.locator("[data-step=report] .mm-node-line")).to_contain_text("38 %")
    assert page.evaluate(CUT) == []


def test_the_graph_stays_in_sight_when_a_result_opens_below_it(ten: Callable[..., Page]) -> None:
    page = ten({})
    for name in ("Higher", None):
        page.locator("[data-step=verdict] .mm-node-head").click()
        page.wait_for_timeout(600)
        pane, node = (
            page.locator(".mm-flow").bounding_box(),
            page.locator("[data-step=verdict]").bounding_box(),
        )
        assert pane is not None
        assert node is not None
        assert pane["y"] <= node["y"]
        assert node["y"] + node["height"] <= pane["y"] + pane["height"]
        if name:
            page.get_by_role("button", name=name).click()
            page.wait_for_timeout(600)
    result = page.locator(".mm-result").bounding_box()
    assert result is not None
    assert result["height"] > 500


def test_the_rows_that_it_gets_wrong_are_found_by_their_keys(ten: Callable[..., Page]) -> None:
    result = {"step": "verdict", "tasks": ["verdict"], "outputs": {}, "metrics": {}, "mlflow_url": ""}
    report = {
        **verdict(["a text"]),
        "mistakes": [{"key": "T7", "text": "a text", "label": "a", "answer": "b", "score": 0.9}],
    }
    result |= {"reports": [{"step": "verdict", "file": "gate", "content": report}], "texts_hidden": False}
    page = ten({}, {"/pipelines/ten/runs/one/steps/verdict/result": result})
    page.locator("[data-step=verdict] .mm-node-head").click()
    expect(page.get_by_role("table", name="Mistakes").get_by_role("row").nth(1)).to_contain_text("T7")


FOCUSED = """() => {
    const one = document.activeElement;
    const drawn = one.closest('.react-flow__node, .react-flow__edge');
    return drawn?.dataset.id ?? one.getAttribute('aria-label') ?? one.textContent;
}"""


def focused(page: Page) -> str:
    return str(page.evaluate(FOCUSED))


def test_tab_passes_the_graph_and_the_components_in_one_stop_each(ten: Callable[..., Page]) -> None:
    page = ten({})
    page.get_by_role("toolbar").get_by_role("button", name="Run", exact=True).focus()
    stops = []
    while not page.evaluate("document.activeElement.closest('.mm-inspector') !== null"):
        page.keyboard.press("Tab")
        stops.append(focused(page))
        assert len(stops) < 20, stops
    assert len([stop for stop in stops if stop in STEPS]) == 1, stops
    assert len(stops) <= 9, stops
    assert stops[-1] == "Go to the run"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.closest('.mm-run') !== null")


def test_arrow_keys_go_from_step_to_step_and_to_edges(
    ten: Callable[..., Page], serious: Callable[[Page], list[Any]]
) -> None:
    page = ten({})
    page.get_by_role("toolbar").get_by_role("button", name="Undo").focus()
    page.locator(".mm-skip button").first.focus()
    assert focused(page) == "Go to the steps"
    page.keyboard.press("Enter")
    page.keyboard.press("Home")
    assert focused(page) == "raw"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    assert focused(page) == "raw"
    seen = {"raw"}
    for _ in STEPS[1:]:
        page.keyboard.press("PageDown")
        page.wait_for_timeout(150)
        seen.add(focused(page))
    assert seen == set(STEPS)
    page.locator(".react-flow__node[data-id=teacher]").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_label("Step", exact=True)).to_have_value("teacher")
    page.wait_for_timeout(600)  # its result opens, and the graph makes room for it
    place = page.locator("[data-step=teacher]").bounding_box()
    page.keyboard.press("e")
    assert focused(page) == "dataset.dataset>teacher.dataset"
    page.keyboard.press("ArrowLeft")
    assert focused(page) == "dataset"
    page.keyboard.press("ArrowUp")
    assert page.locator("[data-step=teacher]").bounding_box() == place
    assert serious(page) == []


def test_keys_of_the_graph_are_its_own(ten: Callable[..., Page]) -> None:
    log = {"lines": [{"text": "a line of the log"}], "cut": False, "progress": None, "said": ""}
    page = ten({"teacher": "failed"}, {"/pipelines/ten/runs/one/steps/teacher/log": log})
    teacher = page.locator(".react-flow__node[data-id=teacher]")
    notes = page.locator("[data-step=notes]")
    teacher.press("Enter")
    lines = page.locator(".mm-log")
    expect(lines).to_have_text(re.compile("a line of the log"))
    lines.focus()
    for key in ("Delete", "Backspace", "Control+x", "Control+d"):
        page.keyboard.press(key)
    page.get_by_role("button", name="Arrange automatically").press("Delete")
    page.get_by_role("button", name="Versions").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    for key in ("Delete", "Control+x", "Control+z"):
        page.keyboard.press(key)
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    # What is selected is what is copied: the text, and then, in the graph, the step.
    lines.evaluate("log => getSelection().selectAllChildren(log)")
    page.evaluate("addEventListener('copy', () => { window.copied = String(getSelection()); })")
    lines.focus()
    page.keyboard.press("Control+c")
    assert "a line of the log" in page.evaluate("window.copied")
    page.keyboard.press("Control+v")
    expect(page.locator("[data-step=teacher_2]")).to_have_count(0)
    expect(page.get_by_role("button", name="Undo")).to_be_disabled()  # until here nothing has changed

    notes.locator(".mm-node-head").click()
    page.keyboard.press("Control+c")
    page.keyboard.press("Control+v")
    expect(page.locator("[data-step=notes_2]")).to_have_count(1)
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Delete")
    expect(page.locator("[data-step=notes_2]")).to_have_count(0)
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Control+z")
    expect(page.locator("[data-step=notes_2]")).to_have_count(1)
    page.get_by_role("toolbar").get_by_role("button", name="Arrange automatically").press("Control+z")
    expect(page.locator("[data-step=notes_2]")).to_have_count(0)
    # An edge goes, too.
    edge = page.locator('[data-id="raw.table>notes.table"]')
    edge.press("Enter")
    page.keyboard.press("Delete")
    expect(edge).to_have_count(0)
