"""A real Airflow asks a person: the question, the answers, the time that runs out, and what waiting costs."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from demo.servers import AirflowClient, LocalAirflow
from playwright.sync_api import sync_playwright

pytestmark = pytest.mark.airflow

CHROMIUM = shutil.which("chromium")
BUNDLE = Path(__file__).parents[3] / "plugins" / "modelmill_plugin" / "static" / "canvas.js"


def test_a_person_is_asked(airflow: LocalAirflow) -> None:
    with closing(airflow.client()) as client:
        for dag_id in ("asked", "late", "refused"):
            client.wait_for_dag(dag_id)
            client.unpause(dag_id)

        approved = client.trigger("asked")
        wait_for_question(airflow, client, "asked", approved)
        check_that_waiting_holds_nothing(client)
        question = client.call("GET", details("asked", approved))
        assert question["subject"] == "Promote a challenger of topics?"
        assert question["body"] == "**topics: passed.** {{ macros }} 2 checks", "a report is no template"
        assert (question["options"], question["defaults"]) == (["Approve", "Reject"], ["Reject"])
        answer(client, "asked", approved, "Approve", "looks right")
        assert client.wait("asked", approved, timeout=180) == "success"
        verdict = client.xcom("asked", approved, "answer")["verdict"]
        assert verdict["passed"]
        assert verdict["approved_by"] == "admin: looks right"

        rejected = client.trigger("asked")
        wait_for_question(airflow, client, "asked", rejected)
        if CHROMIUM and BUNDLE.exists():
            answer_on_the_canvas(airflow, "asked", "Reject", "not on a Friday")
        else:
            answer(client, "asked", rejected, "Reject", "not on a Friday")
        assert client.wait("asked", rejected, timeout=180) == "success"
        verdict = client.xcom("asked", rejected, "answer")["verdict"]
        assert (verdict["passed"], verdict["reasons"]) == (False, ["rejected by admin: not on a Friday"])

        late = client.trigger("late")
        assert client.wait("late", late, timeout=180) == "success"
        verdict = client.xcom("late", late, "answer")["verdict"]
        assert (verdict["passed"], verdict["reasons"]) == (False, ["rejected by nobody: no answer in time"])

        refused = client.trigger("refused")
        assert client.wait("refused", refused, timeout=180) == "success"
        assert client.xcom("refused", refused, "answer")["verdict"]["reasons"] == ["worse"]


def check_that_waiting_holds_nothing(client: AirflowClient) -> None:
    pool = client.call("GET", "/pools/default_pool")
    assert (pool["occupied_slots"], pool["running_slots"], pool["deferred_slots"]) == (0, 0, 0)


def details(dag_id: str, run_id: str) -> str:
    return f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/answer/-1/hitlDetails"


def wait_for_question(airflow: LocalAirflow, client: AirflowClient, dag_id: str, run_id: str) -> None:
    """Wait until a run asks, and its scheduler knows that the process that asked has ended.

    An answer between the two looks like a failure to Airflow 3.3, which then asks once more.
    """
    key = f"TaskInstanceKey(dag_id='{dag_id}', task_id='answer', run_id='{run_id}'"
    ended = f"Received executor event with state success for task instance {key}"
    wait_until(lambda: client.states(dag_id, run_id).get("answer") == "awaiting_input")
    wait_until(lambda: ended in (airflow.home / "logs" / "scheduler.log").read_text())


def answer(client: AirflowClient, dag_id: str, run_id: str, option: str, reason: str) -> None:
    body: dict[str, Any] = {"chosen_options": [option], "params_input": {"reason": reason}}
    client.call("PATCH", details(dag_id, run_id), json=body)


def answer_on_the_canvas(airflow: LocalAirflow, dag_id: str, option: str, reason: str) -> None:
    """Answer the newest run's question where the canvas shows it."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(base_url=airflow.url, viewport={"width": 1600, "height": 1000})
        page.set_default_timeout(60_000)
        page.goto("/")
        page.fill("input[name=username]", airflow.user)
        page.fill("input[name=password]", airflow.password)
        page.click("button[type=submit]")
        page.get_by_role("link", name="Dags", exact=True).wait_for()
        page.goto(f"/plugin/modelmill/canvas/{dag_id}")
        page.get_by_role("combobox", name="Run", exact=True).select_option(index=1)
        page.locator("[data-step=answer] .mm-node-head").click()
        question = page.get_by_role("region", name="Question")
        question.get_by_text("Promote a challenger of topics?").wait_for()
        question.get_by_label("Reason").fill(reason)
        question.get_by_role("button", name=option, exact=True).click()
        question.get_by_text(f"Answered: {option}").wait_for()
        browser.close()


def wait_until(true: Callable[[], bool], *, seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.3)
