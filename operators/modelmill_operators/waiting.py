"""Waiting, in the triggerer, for work that a step has handed to an endpoint: no slot is held meanwhile."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

from airflow.sdk import BaseHook
from airflow.triggers.base import BaseTrigger, TriggerEvent

from modelmill.language_models.endpoint import Endpoint
from modelmill.system.replies import UNPACKED, Intake, origin
from modelmill_operators.language_models import llm_environment

MOST_FAILURES = 5
REQUEST_SECONDS = 30.0
MOST_BYTES = 4_000_000
"""Of a reply."""

log = logging.getLogger(__name__)


class EndpointTrigger(BaseTrigger):
    """Fire when a ``status`` at an endpoint is one of those that are waited for.

    It only looks. Where the endpoint cannot be asked some times in a row, the step is woken: it looks itself,
    and says what is wrong.

    :param connection: id of the Airflow connection to the endpoint; None: only the step's environment has it,
        and the step is woken each time.
    :param path: below the endpoint's URL, what has the ``status``.
    :param until: values of ``status``.
    :param seconds: between two looks.
    """

    def __init__(self, *, connection: str | None, path: str, until: Sequence[str], seconds: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # Airflow has no types here
        self.connection = connection
        self.path = path
        self.until = until
        self.seconds = seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes this trigger again: its class and its arguments."""
        arguments = {
            "connection": self.connection,
            "path": self.path,
            "until": list(self.until),
            "seconds": self.seconds,
        }
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look until it is time for the step to go on.

        :yields: the one event.
        """
        failures, status = 0, ""
        while failures < MOST_FAILURES and status not in self.until:
            await asyncio.sleep(self.seconds)
            if self.connection is None:
                break
            try:
                status, failures = await self._status(self.connection), 0
            except Exception as error:  # whose message might have the key
                failures += 1
                log.warning("the endpoint cannot be asked: %s", type(error).__name__)
        log.info("the step goes on: %s", status or "it looks itself")
        yield TriggerEvent({"status": status})  # type: ignore[no-untyped-call] # Airflow has no types here

    async def _status(self, connection: str) -> str:
        import httpx

        endpoint = Endpoint.of(llm_environment(await BaseHook.aget_connection(connection)))
        headers = dict(UNPACKED)
        if endpoint.key:
            headers["authorization"] = f"Bearer {endpoint.key}"
        content = bytearray()
        async with (
            asyncio.timeout(REQUEST_SECONDS),  # of the whole reply: httpx bounds each read alone
            httpx.AsyncClient(headers=headers, timeout=REQUEST_SECONDS) as client,
            client.stream("GET", f"{endpoint.url}/{self.path}") as response,
        ):
            response.raise_for_status()
            intake = Intake(
                origin(endpoint.url),
                most_bytes=MOST_BYTES,
                encoding=response.headers.get("content-encoding"),
            )
            async for part in response.aiter_raw():
                for piece in intake.pieces(part):
                    content += piece
            intake.end()
        return str(json.loads(content)["status"])
