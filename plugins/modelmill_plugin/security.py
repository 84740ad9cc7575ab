"""Who may call a route, and from where.

Airflow mounts a plugin's app without any check of its own, so each route carries one of the guards below, and
an app with a route that has none is not made. The browser's token is a cookie: a request that changes
something must therefore be one that no other site can make it send.
"""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import urlsplit

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_asset, requires_access_dag
from airflow.configuration import conf
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.routing import Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modelmill_plugin.errors import API_HEADERS, HEADERS, ErrorBody

CSRF_HEADER = "x-modelmill"
"""Header of every request that changes something: another site cannot set it without being asked first."""

User = GetUserDep

may_read = requires_access_dag("GET", DagAccessEntity.CODE)
"""May read the pipeline in the path, or pipelines in general if the path names none."""
may_edit = requires_access_dag("PUT")
"""May change the pipeline in the path, or pipelines in general if the path names none."""
may_delete = requires_access_dag("DELETE")
may_see_runs = requires_access_dag("GET", DagAccessEntity.RUN)
may_see_steps = requires_access_dag("GET", DagAccessEntity.TASK_INSTANCE)
may_see_xcoms = requires_access_dag("GET", DagAccessEntity.XCOM)
may_see_logs = requires_access_dag("GET", DagAccessEntity.TASK_LOGS)
may_run = requires_access_dag("POST", DagAccessEntity.RUN)
may_promote = requires_access_asset("PUT")
"""May say which version of a model is in use: a registered model is an asset to Airflow."""


def may_edit_all(user: User) -> None:
    """May change pipelines in general. The guards above take a pipeline's id from the query as well."""
    if not get_auth_manager().is_authorized_dag(method="PUT", user=user):
        raise HTTPException(HTTPStatus.FORBIDDEN, "the user must be allowed to edit pipelines in general")


GUARDS = (
    may_read,
    may_edit,
    may_edit_all,
    may_delete,
    may_see_runs,
    may_see_steps,
    may_see_xcoms,
    may_see_logs,
    may_run,
    may_promote,
)

READ = Depends(may_read)
EDIT = Depends(may_edit)
EDIT_ALL = Depends(may_edit_all)
DELETE = Depends(may_delete)
SEE_RUNS = Depends(may_see_runs)
SEE_STEPS = Depends(may_see_steps)
SEE_XCOMS = Depends(may_see_xcoms)
SEE_LOGS = Depends(may_see_logs)
RUN = Depends(may_run)
PROMOTE = Depends(may_promote)

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_MAX_BODY = 7_000_000  # a CSV file of 3 MB, of which JSON may double quotes and ends of lines


def check_guarded(app: FastAPI) -> None:
    """Make sure that no route but static files can be called without a guard.

    :param app: the app, with all its routes.
    :raises RuntimeError: naming the routes without one.
    """
    open_routes = [
        str(getattr(route, "path", route))
        for route in app.routes
        if not (isinstance(route, Mount) and route.name == "static")
        and not (isinstance(route, APIRoute) and _is_guarded(route.dependant))
    ]
    if open_routes:
        raise RuntimeError(f"every route needs a guard of modelmill_plugin.security; got {open_routes}")


def _is_guarded(dependant: Dependant) -> bool:
    return any(part.call in GUARDS for part in dependant.dependencies)


class RequestShield:
    """Refuses writes that could come from another site, and puts the security headers on every answer.

    :param app: the app behind it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        is_static = request.url.path.startswith(f"{scope.get('root_path', '')}/static/")
        headers = HEADERS if is_static else API_HEADERS

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                known = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *(
                        (name.encode(), value.encode())
                        for name, value in headers.items()
                        if name.encode() not in known
                    ),
                ]
            await send(message)

        refusal = None if request.method in _SAFE_METHODS else _refusal(request)
        if refusal:
            status, reason = refusal
            body = ErrorBody(kind="RequestError", message=reason, rule=reason)
            answer = Response(body.model_dump_json(), status_code=status, media_type="application/json")
            await answer(scope, receive, with_headers)
            return
        await self.app(scope, receive, with_headers)


def _refusal(request: Request) -> tuple[int, str] | None:
    """Return status and reason if a request that changes something must not be followed."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        return 415, "a request that changes something has a JSON body (Content-Type: application/json)"
    length = request.headers.get("content-length", "")
    if not length.isdecimal():
        return 411, "a request that changes something says how long its body is (Content-Length)"
    if not 0 < int(length) <= _MAX_BODY:
        return 413, f"a request's body has 1 to {_MAX_BODY:,} bytes"
    if CSRF_HEADER not in request.headers:
        return 403, f"a request that changes something has the header {CSRF_HEADER}"
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return 403, "a request that changes something comes from Airflow's own pages"
    origin = request.headers.get("origin")
    if origin is not None and origin.partition("://")[2] not in _own_hosts(request):
        return 403, "a request that changes something comes from Airflow's own pages"
    return None


def _own_hosts(request: Request) -> set[str]:
    # The scheme may be another behind a proxy that ends TLS.
    base = urlsplit(conf.get("api", "base_url", fallback=""))
    return {request.url.netloc, base.netloc} - {""}
