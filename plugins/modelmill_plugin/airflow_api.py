"""Airflow's own API, called within the API server's process with the rights of whoever calls us.

A run is started, cleared or parsed exactly as if the user had asked Airflow: the same permissions, the same
checks, the same entries in the audit log. No token is stored, and no request leaves the process.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import httpx
from fastapi import Request

from modelmill_plugin.errors import RefusedError

_TIMEOUT_SECONDS = 60.0
_CREDENTIALS = ("authorization", "cookie")


class AirflowApi:
    """Airflow's API as a caller sees it."""

    def __init__(self, request: Request) -> None:
        self._headers = {name: request.headers[name] for name in _CREDENTIALS if name in request.headers}
        self._origin = f"{request.url.scheme}://{request.url.netloc}"

    async def call(self, method: str, *parts: str, body: Any = None) -> Any:
        """Call a route of ``/api/v2``.

        :param method: the HTTP method.
        :param *parts: the path's parts; each is quoted.
        :param body: sent as JSON; None for none.
        :return: what it answers.
        :raises RefusedError: with Airflow's status and reason.
        """
        from airflow.api_fastapi.main import app

        path = "/api/v2/" + "/".join(quote(part, safe="") for part in parts)
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(
            transport=transport, base_url=self._origin, timeout=_TIMEOUT_SECONDS
        ) as client:
            answer = await client.request(
                method, path, json=body, headers={**self._headers, "accept": "application/json"}
            )
        if not answer.is_success:
            raise RefusedError(answer.status_code, f"Airflow must follow the request ({_reason(answer)})")
        return answer.json() if answer.content else None


def _reason(answer: httpx.Response) -> str:
    try:
        detail = answer.json()["detail"]
    except (ValueError, KeyError, TypeError):
        return f"it answers {answer.status_code}"
    if isinstance(detail, dict):
        detail = detail.get("message") or detail.get("reason") or detail
    return str(detail)
