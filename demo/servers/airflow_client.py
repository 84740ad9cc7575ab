"""The few calls of Airflow's public REST API that a demonstration and the tests need."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import httpx

from demo.servers.processes import ServerError, Servers

TaskStates = dict[str, str | None]
FINISHED = ("success", "failed")
_TRIES = 5


class AirflowClient:
    """Client of one Airflow, logged in as one user.

    :param url: its base URL.
    :param user: user name.
    :param password: password.
    :param servers: its processes: who waits for a run hears at once that one has ended.
    :raises httpx.HTTPError: if it does not answer, or refuses the user.
    """

    def __init__(self, url: str, user: str, password: str, *, servers: Servers | None = None) -> None:
        self._servers = servers
        answer = httpx.post(f"{url}/auth/token", json={"username": user, "password": password}, timeout=30)
        answer.raise_for_status()
        self._http = httpx.Client(
            base_url=f"{url}/api/v2",
            headers={"Authorization": f"Bearer {answer.json()['access_token']}"},
            timeout=120,
        )

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def call(self, method: str, path: str, **options: Any) -> Any:
        """Call a route below ``/api/v2``.

        On SQLite, Airflow's API server can wait for a lock that one of its own requests holds. It gives up
        after 5 s and undoes what it has begun, so the call is made again.

        :param method: HTTP method.
        :param path: path with its leading slash.
        :param **options: as httpx takes them: ``json``, ``params``, ….
        :return: the answer's JSON.
        :raises ServerError: if Airflow answers with an error.
        """
        for _ in range(_TRIES):
            answer = self._http.request(method, path, **options)
            if answer.status_code != httpx.codes.INTERNAL_SERVER_ERROR or "Database error" not in answer.text:
                break
        if answer.is_error:
            raise ServerError(f"{method} {path} must succeed", got=f"{answer.status_code} {answer.text}")
        return answer.json() if answer.content else None

    def wait_for_dag(self, dag_id: str, *, timeout: float = 90.0) -> None:
        """Wait until the DAG processor has read a DAG.

        :param dag_id: the DAG.
        :param timeout: seconds.
        :raises ServerError: if it does not appear, or a server ends; the import errors are shown.
        """
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            self._check_servers()
            if self._http.get(f"/dags/{dag_id}").is_success:
                return
            time.sleep(0.3)
        raise ServerError(f"DAG {dag_id} must appear within {timeout:.0f} s", got=self.import_errors())

    def import_errors(self) -> list[str]:
        """Return the errors of DAG files that could not be read."""
        return [error["stack_trace"] for error in self.call("GET", "/importErrors")["import_errors"]]

    def unpause(self, dag_id: str) -> None:
        """Let a DAG run."""
        self.call("PATCH", f"/dags/{dag_id}", json={"is_paused": False})

    def trigger(
        self, dag_id: str, params: dict[str, Any] | None = None, *, logical_date: datetime | None = None
    ) -> str:
        """Start a run.

        :param dag_id: the DAG.
        :param params: values of its parameters.
        :param logical_date: the date that it is for; None: for none, it reads what is there now.
        :return: the run's id.
        """
        body = {"logical_date": logical_date and logical_date.isoformat(), "conf": params or {}}
        return str(self.call("POST", f"/dags/{dag_id}/dagRuns", json=body)["dag_run_id"])

    def run_state(self, dag_id: str, run_id: str) -> str:
        """Return ``queued``, ``running``, ``success`` or ``failed``."""
        return str(self.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}")["state"])

    def tasks(self, dag_id: str, run_id: str) -> dict[str, dict[str, Any]]:
        """Return the task instances of a run, as Airflow describes them, by task id."""
        answer = self.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances")
        return {item["task_id"]: item for item in answer["task_instances"]}

    def states(self, dag_id: str, run_id: str) -> TaskStates:
        """Return the state of each task of a run; None: not scheduled yet."""
        return {name: task["state"] for name, task in self.tasks(dag_id, run_id).items()}

    def wait(
        self,
        dag_id: str,
        run_id: str,
        *,
        timeout: float = 1800.0,
        on_change: Callable[[TaskStates], None] | None = None,
        every: float = 0.5,
    ) -> str:
        """Wait until a run has ended.

        :param dag_id: the DAG.
        :param run_id: the run.
        :param timeout: seconds.
        :param on_change: gets the state of each task whenever one has changed.
        :param every: seconds between two looks.
        :return: ``success`` or ``failed``.
        :raises ServerError: if the time is over, or a server ends.
        """
        deadline = time.monotonic() + timeout
        seen: TaskStates = {}
        while time.monotonic() < deadline:
            self._check_servers()
            state = self.run_state(dag_id, run_id)
            states = self.states(dag_id, run_id)
            if on_change and states != seen:
                on_change(states)
            seen = states
            if state in FINISHED:
                return state
            time.sleep(every)
        remedy = self._servers.tail("scheduler") if self._servers else ""
        raise ServerError(f"run {run_id} must end within {timeout:.0f} s", got=seen, remedy=remedy)

    def log(self, dag_id: str, run_id: str, task_id: str, *, attempt: int = 1) -> str:
        """Return a task's log, one event a line, and each exception as a line after its event.

        :param dag_id: the DAG.
        :param run_id: the run.
        :param task_id: the task.
        :param attempt: from 1.
        :return: the text.
        """
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{attempt}"
        content = self.call("GET", path, params={"full_content": True})["content"]
        lines: list[str] = []
        for item in content:
            lines.append(item["event"] if isinstance(item, dict) else str(item))
            details = (item.get("error_detail") or ()) if isinstance(item, dict) else ()
            lines += [f"{detail['exc_type']}: {detail['exc_value']}" for detail in details]
        return "\n".join(lines)

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value") -> Any:
        """Return a value that a task has pushed."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}"
        return self.call("GET", path, params={"deserialize": False})["value"]

    def links(self, dag_id: str, run_id: str, task_id: str) -> dict[str, str | None]:
        """Return a task's links by name; None: not there (yet)."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/links"
        return dict(self.call("GET", path)["extra_links"])

    def set_task_state(self, dag_id: str, run_id: str, task_id: str, state: str) -> None:
        """Mark a task as ``failed`` or ``success``: a running one is ended."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}"
        self.call("PATCH", path, json={"new_state": state})

    def _check_servers(self) -> None:
        if self._servers:
            self._servers.check()
