"""Answers of the plugin's routes that tests make up: the page that shows them is the real one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Page, Route


def table(texts: Sequence[str]) -> dict[str, Any]:
    """Rows of an edge, with the texts as names of columns, values, classes and types."""
    joined = " ".join(texts)
    return {
        "uri": joined,
        "version": 0,
        "rows": 30,
        "columns": [{"name": text, "type": text, "nullable": True} for text in texts],
        "sample": [dict.fromkeys(texts, other) for other in texts[:5]],
        "balance": {joined: [{"value": text, "rows": 1} for text in texts]},
        "counted": 30,
        "step": "raw",
        "kind": "table",
        "rows_before": 10,
    }


def verdict(texts: Sequence[str]) -> dict[str, Any]:
    """A gate's report, with the texts as names of models, checks, baselines and classes, and in rows."""
    joined = " ".join(texts)
    each = [{"name": text, "rows": 1, "precision": 0.5, "recall": 0.5, "model": joined} for text in texts]
    check = {"check": joined, "name": joined, "metric": joined, "unit": joined, "challenger": 0.5}
    check |= {"sentence": joined, "passed": True}
    baseline = {**check, "check": "baseline", "other": 0.6, "drop": 0.1, "low": -0.1, "high": 0.2}
    return {
        "challenger": joined,
        "champion": joined,
        "passed": False,
        "note": joined,
        "rows": 3,
        "chain": [{"metric": joined, "unit": joined, "value": 0.5, "low": 0.4, "high": 0.6}],
        "checks": [check, baseline],
        "not_judged": [{"check": joined, "name": joined, "rows": 1, "reason": joined}],
        "classes": each,
        "confusions": [[joined, joined, 1]],
        "mistakes": [
            {"key": text, "text": text, "label": text, "answer": text, "score": 0.5} for text in texts
        ],
    }


def result(texts: Sequence[str]) -> dict[str, Any]:
    """Each report that has a card of its own, and one that has none."""
    joined = " ".join(texts)
    each = [{"name": text, "rows": 1, "precision": 0.5, "recall": 0.5, "model": joined} for text in texts]
    judged = {
        "name": joined,
        "uri": "models:/m-1",
        "scores": [{"metric": joined, "value": 0.5, "low": 0.4, "high": 0.6}],
    }
    point = {"name": joined, "quality": 0.5, "size_mb": 1, "speed_ratio": 2, "broken": list(texts)}
    reports = [
        {
            "source": joined,
            "rows_in": 9,
            "rows_out": 3,
            "reasons": dict.fromkeys(texts, 1),
            "splits": {joined: 3},
            "classes": {joined: {text: {joined: 1} for text in texts}},
            "lengths": {joined: {"1": 2}},
        },
        verdict(texts),
        {"label": joined, "rows": 3, "models": [judged], "baselines": [judged], "per_class": each},
        {"candidates": 2, "trained": 1, "points": [point]},
        {"alarms": list(texts), "reasons": list(texts)},
    ]
    return {
        "step": "raw",
        "tasks": ["raw"],
        "outputs": {"model": {"kind": "model", "uri": joined}},
        "reports": [{"step": "raw", "file": joined, "content": one} for one in reports],
        "metrics": dict.fromkeys(texts, 0.5),
        "mlflow_url": "javascript:xss()",
        "texts_hidden": False,
    }


def run(run_id: str, texts: Sequence[str]) -> dict[str, Any]:
    """A run that has ended, with the texts in parameters, values and outputs."""
    joined = " ".join(texts)
    summary = {
        "run_id": run_id,
        "state": "success",
        "run_type": joined,
        "user": joined,
        "queued": "2026-11-29T00:00:00Z",
        "start": None,
        "end": None,
        "params": {text: f"{text} {run_id}" for text in texts},
        "digest": joined,
    }
    node = {
        "value": None,
        "state": "success",
        "try_number": 1,
        "max_tries": 1,
        "start": None,
        "end": None,
        "duration": 1.0,
        "outputs": {"table": {"kind": "table", "uri": f"{joined} {run_id}", "version": 1}},
        "step_key": joined,
        "mlflow_run": joined,
        "mlflow_url": "javascript:xss()",
        "reused": False,
        "log_url": "javascript:xss()",
    }
    return {**summary, "nodes": [{**node, "step": step, "of": step} for step in ("raw", "dataset")]}


def route_answers(page: Page, answers: dict[str, Any]) -> None:
    """Answer requests to some of the plugin's routes, by path; all others go to earlier
    answers, and to the server."""

    def answer(route: Route) -> None:
        path = urlsplit(route.request.url).path.partition("/modelmill/api")[2]
        if path in answers:
            route.fulfill(json=answers[path])
        else:
            route.fallback()

    page.route("**/modelmill/api/**", answer)


def of_two_runs(texts: Sequence[str]) -> dict[str, Any]:
    """All that the page asks of the pipeline ``small`` and its two runs, by path."""
    joined = " ".join(texts)
    runs = [run(run_id, texts) for run_id in ("two", "one")]
    figures = [
        {joined: {"run_id": joined, "status": joined, "metrics": {joined: value}}} for value in (0.5, 0.7)
    ]
    base = "/pipelines/small/runs"
    return {
        base: runs,
        f"{base}/two": runs[0],
        f"{base}/one": runs[1],
        f"{base}/two/metrics": figures[0],
        f"{base}/one/metrics": figures[1],
        f"{base}/two/steps/raw/outputs/table/rows": table(texts),
        f"{base}/two/steps/raw/result": result(texts),
        f"{base}/two/steps/dataset/result": result(texts),
        f"{base}/two/steps/raw/labelling": {"queue": {"queue": {"name": joined}}, "added": 2},
        f"{base}/two/steps/raw/log": {"lines": [{"text": text} for text in texts]},
    }


def of_a_model(texts: Sequence[str]) -> dict[str, Any]:
    """All that the page asks of the model ``m``, by path."""
    joined = " ".join(texts)
    version = {"version": 1, "created": None, "role": joined, "digest": joined, "dataset": joined}
    version |= {
        "parent": joined,
        "run_id": joined,
        "url": "javascript:xss()",
        "pipeline": joined,
        "dag_run": joined,
        "metrics": {joined: 0.5},
        "pipeline_digest": joined,
    }
    model = {"name": "m", "champion": 1, "alias": 1, "versions": 1, "last": None}
    night = {"number": 1, "time": "2026-11-29T00:00:00Z", "action": joined, "to_version": 1, "metric": joined}
    classes = [{"name": text, "probability": 0.5} for text in texts]
    return {
        "/models": [model],
        "/models/m": {**model, "history": [], "all_versions": [version], "may_roll_back": True},
        "/models/m/versions/1/verdict": {
            "uri": joined,
            "content": verdict(texts),
            "dag_id": "small",
            "dag_run": "two",
            "step": "raw",
            "texts_hidden": False,
        },
        "/models/m/nights": [night | {"unit": joined, "value": 0.5, "low": 0.4, "high": 0.6}],
        "/models/m/answers": [
            {"version": 1, "answer": joined, "score": 0.5, "classes": classes, "error": ""}
        ],
    }


def of_a_day(texts: Sequence[str]) -> dict[str, Any]:
    """All that the first page shows on a day on which everything happens, and a decision, by path."""
    joined, time = " ".join(texts), "2026-11-29T00:00:00Z"
    run = {"dag_id": "small", "run_id": joined, "state": "running", "start": time, "end": time}
    decided = {
        "model": joined,
        "number": 1,
        "time": time,
        "action": "refuse",
        "from_version": 1,
        "to_version": 2,
        "digest": joined,
        "step_key": joined,
        "who": joined,
        "reasons": list(texts),
    }
    evidence = [
        {"signal": text, "column": "video", "time": 2.5, "until": 4.0, "value": joined} for text in texts
    ]
    return {
        "/home": {
            "pipelines": 1,
            "running": [run],
            "waiting": [{**run, "task": joined, "subject": joined, "since": time}],
            "failed": [{**run, "state": "failed"}],
            "decided": [decided, {**decided, "number": 2, "action": "promote"}],
            "drifted": [{"name": joined, "time": time, "dag_id": "small", "run_id": joined}],
            "ledger_problem": joined,
        },
        "/decisions": {
            "table": joined,
            "version": 0,
            "is_cut": True,
            "rows": [
                {
                    "text": "\n".join(texts),
                    "decision": {"id": joined, "explanation": {"rule": joined, "evidence": evidence}},
                }
            ],
        },
    }


def of_waiting_steps(texts: Sequence[str]) -> dict[str, Any]:
    """A run of ``small`` in which one step asks a person, and one waits for batches, by path."""
    joined, base = " ".join(texts), "/pipelines/small/runs"
    found = run("live", texts) | {"state": "running"}
    nodes = [
        {**node, "state": state}
        for node, state in zip(found["nodes"], ("awaiting_input", "deferred"), strict=True)
    ]
    found["nodes"] = nodes
    log = {"lines": [{"text": joined}], "cut": False, "progress": None, "said": f"batch {joined}"}
    return {
        base: [found],
        f"{base}/live": found,
        f"{base}/live/metrics": {},
        f"{base}/live/steps/raw/log": log,
        f"{base}/live/steps/dataset/log": log,
    }


def question(texts: Sequence[str]) -> dict[str, Any]:
    """What Airflow answers of a task that waits for a person."""
    joined = " ".join(texts)
    return {"subject": joined, "body": joined, "options": ["Approve", "Reject"], "assigned_users": []}
