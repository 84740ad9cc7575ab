"""Make the pictures of the canvas that the documentation shows, from real runs on the sample.

It starts an Airflow and an MLflow of its own on loopback, does in chromium what a user does, and takes the
pictures on the way; most of the time goes into the training, which comes last. Look at each before it is
committed::

    ./run canvas && ./run python scripts/pictures.py
    ./run python scripts/pictures.py --part model

Needs chromium, and Playwright, which ``./run install dev`` installs.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import tempfile
from contextlib import closing
from pathlib import Path

from demo.samples import prepare
from demo.servers import AirflowClient, LocalAirflow, LocalMlflow
from playwright.sync_api import Page, expect, sync_playwright

from modelmill_plugin.samples import RULES, SAMPLE_TABLE, write_sample_table

ROOT = Path(__file__).parents[1]
START_SECONDS = 300.0
RUN_SECONDS = 3600.0
PATIENCE = 120_000
PAGE = "/plugin/modelmill"
MODEL = "message_desks"
"""Name of the pipeline that is made with one click, and of its model."""

GROUPS = """\
pipeline: rules_of_each_desk
description: A rule set for each desk; one that decides nothing is refused
params:
  data: {description: Folder of the tables}
  rules: {description: Folder of the rule sets}
groups:
  each_desk:
    steps: [verdict, champion]
    for_each: {desk: [billing, delivery, nothing]}
steps:
  messages: {component: delta_table, config: {uri: "${data}/samples/messages"}}
  verdict:
    component: gate_rules
    inputs: {table: messages.table}
    config: {name: "rules_${desk}", rule_set: "${rules}/${desk}.yaml", max_changed: 1}
  champion:
    component: promote
    inputs: {verdict: verdict.verdict}
    when: {verdict: accepted}
  overall:
    component: gate_rules
    inputs: {table: messages.table}
    config: {name: rules_overall, rule_set: "${rules}/nothing.yaml", max_changed: 1}
  in_use:
    component: promote
    inputs: {verdict: overall.verdict}
    when: {overall: accepted}
  review:
    component: build_dataset
    inputs: {table: messages.table}
    config: {text: text, labels: [desk], key: id}
    when: {overall: refused}
"""
DECIDED = """\
pipeline: desk_decisions
description: Which desk each message goes to
params:
  data: {description: Folder of the tables}
  rules: {description: Folder of the rule sets}
steps:
  messages: {component: delta_table, config: {uri: "${data}/samples/messages"}}
  verdict:
    component: gate_rules
    inputs: {table: messages.table}
    config: {name: sample_desks, rule_set: "${rules}/sample_desks.yaml", label: desk}
  rule_set: {component: promote, inputs: {verdict: verdict.verdict}}
  decisions:
    component: decide
    inputs: {table: messages.table, rule_set: rule_set.model}
    config: {to: "${data}/desk_decisions", keep: [text, desk]}
"""
ASKED = """\
pipeline: urgent_messages
description: Rules that a person approves
params:
  data: {description: Folder of the tables}
  rules: {description: Folder of the rule sets}
steps:
  messages: {component: delta_table, config: {uri: "${data}/samples/messages"}}
  verdict:
    component: gate_rules
    inputs: {table: messages.table}
    config: {name: urgent_messages, rule_set: "${rules}/urgent.yaml", max_changed: 1}
  answer: {component: approve, inputs: {verdict: verdict.verdict}}
  champion: {component: promote, inputs: {verdict: answer.verdict}}
"""
FAILED = """\
pipeline: orders_nightly
params:
  data: {description: Folder of the tables}
steps:
  orders: {component: delta_table, config: {uri: "${data}/orders"}}
"""
PIPELINES = {
    "rules_of_each_desk": GROUPS,
    "desk_decisions": DECIDED,
    "urgent_messages": ASKED,
    "orders_nightly": FAILED,
}
WORDS = {
    "billing": ("invoice, refund, price", "billing"),
    "delivery": ("parcel, courier, shipment", "delivery"),
    "urgent": ("today, at once, cannot wait", "urgent"),
    "nothing": ("a phrase that no message has", "nothing"),
}
"""Rule sets: the phrases of each, and its decision."""
RULE_SET = """\
rule_set: {name}
key: id
signals:
  said: {{kind: phrases, column: text, phrases: [{phrases}]}}
rules:
  - {{name: {decision}, when: said, then: {decision}}}
default: other
"""


class Studio:
    """A browser on a usual screen, and the folder of the pictures."""

    def __init__(self, page: Page, folder: Path) -> None:
        self.page = page
        self.folder = folder

    def take(self, name: str, *, height: int = 900) -> None:
        """Take a picture of the window once nothing moves in it."""
        self.page.set_viewport_size({"width": 1440, "height": height})
        self.page.mouse.move(720, 1)
        self.page.wait_for_load_state("networkidle")
        self.page.wait_for_timeout(800)
        self.page.screenshot(path=self.folder / name)
        print(self.folder / name, flush=True)


def main() -> None:
    """Parse the command line, start the servers, take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=ROOT / "docs" / "images", help="folder of the pictures")
    parser.add_argument("--samples", type=Path, default=ROOT / ".modelmill", help="where the base model is")
    parser.add_argument(
        "--part", choices=("pages", "model"), help="only those without, or those with a training; else all"
    )
    options = parser.parse_args()
    _, base_model = prepare(options.samples.absolute())
    with tempfile.TemporaryDirectory(prefix="modelmill-pictures-") as folder:
        home = Path(folder)
        for name in ("pipelines", "rules", "data"):
            (home / name).mkdir()
        _write_rules(home / "rules")
        write_sample_table(str(home / "data" / SAMPLE_TABLE))
        with LocalMlflow(home / "mlflow") as mlflow:
            mlflow.wait_ready(timeout=START_SECONDS)
            with _airflow(home, mlflow.url, base_model) as airflow:
                airflow.wait_ready(timeout=START_SECONDS)
                airflow.warm_up(timeout=START_SECONDS)
                _pictures(airflow, home, options.to, options.part)


def _airflow(home: Path, tracking_uri: str, base_model: Path) -> LocalAirflow:
    environment = {
        "MLFLOW_TRACKING_URI": tracking_uri,
        "MODELMILL_HOME": str(home),
        "MODELMILL_PIPELINES": str(home / "pipelines"),
        "MODELMILL_PARAM_DATA": str(home / "data"),
        "MODELMILL_PARAM_RULES": str(home / "rules"),
        "MODELMILL_PARAM_BASE_MODEL": str(base_model),
        "AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "1",
    }
    return LocalAirflow(home / "airflow", ROOT / "dags", environment=environment)


def _write_rules(folder: Path) -> None:
    (folder / "sample_desks.yaml").write_text(RULES)
    for name, (phrases, decision) in WORDS.items():
        text = RULE_SET.format(name=name, phrases=phrases, decision=decision)
        (folder / f"{name}.yaml").write_text(text)


def _pictures(airflow: LocalAirflow, home: Path, folder: Path, part: str | None) -> None:
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright, closing(airflow.client()) as client:
        program = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(base_url=airflow.url, viewport={"width": 1440, "height": 900})
        page.set_default_timeout(PATIENCE)
        page.on("dialog", lambda dialog: dialog.accept())  # "leave the page?"
        studio = Studio(page, folder)
        _log_in(page, airflow)
        if part != "model":
            _first_steps(studio)
            for name, text in PIPELINES.items():
                (home / "pipelines" / f"{name}.yaml").write_text(text)
            _rule_set(studio)
            _groups(studio, client)
            _forecast(studio, home / "pipelines")
            _decisions(studio, client)
            _labelling(studio)
            _morning(studio, client)
        if part != "pages":
            _a_model(studio)
        browser.close()


def _log_in(page: Page, airflow: LocalAirflow) -> None:
    page.goto("/")
    page.fill("input[name=username]", airflow.user)
    page.fill("input[name=password]", airflow.password)
    page.click("button[type=submit]")
    page.get_by_role("link", name="Dags", exact=True).wait_for()


def _first_steps(studio: Studio) -> None:
    page = studio.page
    page.goto(f"{PAGE}/home")
    page.get_by_role("region", name="Templates").wait_for()
    studio.take("canvas-gallery-light.png")
    template = page.get_by_role("region", name="From a table to a small model")
    template.get_by_role("button", name="Try it on the sample").click()
    expect(page.get_by_text("valid", exact=True)).to_be_visible()
    page.locator("[data-step=student] .mm-node-head").click()
    studio.take("canvas-graph-light.png")


def _a_model(studio: Studio) -> None:
    """From the sample to a model: minutes of training, so it comes last."""
    page = studio.page
    page.goto(f"{PAGE}/one-click")
    page.get_by_role("button", name="${data}/samples/messages", exact=True).click()
    expect(page.get_by_label("Text", exact=True)).to_be_enabled()
    page.get_by_label("Text", exact=True).select_option("text")
    page.get_by_label("Label", exact=True).select_option("desk")
    page.get_by_label("Name of the pipeline").fill(MODEL)
    page.get_by_role("group", name="Rows by class").wait_for()
    studio.take("canvas-one-click-light.png")
    page.get_by_role("button", name="Save and run").click()
    _wait_for_end(page)
    page.get_by_role("table", name="Checks").wait_for()
    studio.take("canvas-run-light.png", height=960)
    page.goto(f"{PAGE}/models/{MODEL}")
    page.get_by_role("table", name="Quality by class").wait_for()
    studio.take("canvas-models-light.png")


def _wait_for_end(page: Page) -> None:
    state = page.locator(".mm-run-head .mm-badge")
    expect(state).to_have_text(re.compile("success|failed"), timeout=1000 * RUN_SECONDS)
    if state.inner_text() != "success":
        raise SystemExit(f"a run on the sample must succeed: {page.locator('.mm-run').inner_text()}")


def _run(client: AirflowClient, name: str) -> str:
    client.wait_for_dag(name, timeout=START_SECONDS)
    client.unpause(name)
    return client.trigger(name)


def _groups(studio: Studio, client: AirflowClient) -> None:
    page = studio.page
    run_id = _run(client, "rules_of_each_desk")
    client.wait("rules_of_each_desk", run_id, timeout=RUN_SECONDS)
    page.goto(f"{PAGE}/canvas/rules_of_each_desk")
    page.locator("[data-step=champion] .mm-badge").wait_for()
    page.locator("[data-step=champion] .mm-node-head").click()
    page.get_by_label("Copy of champion").select_option(label="nothing · skipped")
    studio.take("canvas-groups-light.png")


def _forecast(studio: Studio, pipelines: Path) -> None:
    """Ask before a run that has one desk more: some results are there, and two steps have to run."""
    page = studio.page
    text = GROUPS.replace("[billing, delivery, nothing]", "[billing, delivery, nothing, urgent]")
    (pipelines / "rules_of_each_desk.yaml").write_text(text)
    page.goto(f"{PAGE}/canvas/rules_of_each_desk")
    page.locator("[data-step=champion] .mm-badge").wait_for()
    page.get_by_role("button", name="What a run will do").click()
    page.get_by_role("dialog").locator("summary").click()
    studio.take("canvas-forecast-light.png")


def _rule_set(studio: Studio) -> None:
    """Try a rule set on the sample: each row says which rule decided, and why."""
    page = studio.page
    page.goto(f"{PAGE}/rules/sample_desks")
    expect(page.get_by_text("valid", exact=True)).to_be_visible()
    page.get_by_label("Table to try it on").fill("${data}/samples/messages")
    page.get_by_role("button", name="Try", exact=True).click()
    page.get_by_label("Decisions").wait_for()
    studio.take("canvas-rules-light.png")


def _decisions(studio: Studio, client: AirflowClient) -> None:
    client.wait("desk_decisions", _run(client, "desk_decisions"), timeout=RUN_SECONDS)
    studio.page.goto(f"{PAGE}/decisions?table=%24%7Bdata%7D%2Fdesk_decisions&column=id&key=m0005")
    studio.page.get_by_role("region", name="Decision", exact=True).wait_for()
    studio.take("canvas-decisions-light.png")


def _labelling(studio: Studio) -> None:
    page = studio.page
    page.goto(f"{PAGE}/labelling")
    form = page.get_by_role("form", name="Put rows forward")
    form.get_by_text("More", exact=True).click()
    fields = {
        "Table": "${data}/samples/messages",
        "Column with the key": "id",
        "Column to read": "text",
        "Name of the queue": "desks",
        "Classes": "billing, delivery, product, account",
        "What is labelled": "desk",
    }
    for label, value in fields.items():
        form.get_by_label(label, exact=True).fill(value)
    form.get_by_role("button", name="Put forward").click()
    row = page.get_by_label("Text of the row")
    row.wait_for()
    for key in "123412342":
        before = row.inner_text()
        page.keyboard.press(key)
        expect(row).not_to_have_text(before)
    studio.take("labelling.png", height=620)


def _morning(studio: Studio, client: AirflowClient) -> None:
    """Something failed, something waits for an answer, something runs: all that a day has."""
    client.wait("orders_nightly", _run(client, "orders_nightly"), timeout=RUN_SECONDS)
    _run(client, "urgent_messages")
    page = studio.page
    page.goto(f"{PAGE}/home")
    waiting = page.get_by_role("region", name="Waiting for an answer")
    waiting.get_by_role("link", name="urgent_messages").wait_for()
    client.trigger("desk_decisions")
    page.reload()
    page.get_by_role("region", name="Running now").get_by_role("link", name="desk_decisions").wait_for()
    studio.take("canvas-home-light.png")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    main()
