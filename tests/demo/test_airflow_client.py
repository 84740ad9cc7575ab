"""The client of Airflow's API: what it does when the database is locked."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from demo.servers import AirflowClient
from demo.servers.processes import LOOPBACK, ServerError

LOCKED = (500, {"detail": {"reason": "Database error"}})


class Airflow:
    """Answers with what it is given, in this order, the last one for ever."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers: list[tuple[int, Any]] = []
        self.calls: list[str] = []

    def answer(self, call: str) -> tuple[int, Any]:
        if call == "POST /auth/token":
            return 201, {"access_token": "secret"}
        self.calls.append(call)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture
def airflow() -> Iterator[Airflow]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            status, body = found.answer(f"POST {self.path}")
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer((LOOPBACK, 0), Handler) as server:
        found = Airflow(f"http://{LOOPBACK}:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield found
        server.shutdown()
        thread.join()


def test_a_call_is_made_again_while_the_database_is_locked(airflow: Airflow) -> None:
    airflow.answers = [LOCKED, LOCKED, (200, {"dag_run_id": "one"})]
    with closing(AirflowClient(airflow.url, "admin", "secret")) as client:
        assert client.trigger("nightly") == "one"
    assert airflow.calls == ["POST /api/v2/dags/nightly/dagRuns"] * 3


@pytest.mark.parametrize(
    ("answer", "calls"), [(LOCKED, 5), ((500, {"detail": "a fault"}), 1), ((404, {"detail": "no DAG"}), 1)]
)
def test_other_errors_and_a_lock_for_ever_are_said(airflow: Airflow, answer: Any, calls: int) -> None:
    airflow.answers = [answer]
    with (
        closing(AirflowClient(airflow.url, "admin", "secret")) as client,
        pytest.raises(ServerError, match=f"got '{answer[0]}"),
    ):
        client.trigger("nightly")
    assert len(airflow.calls) == calls
