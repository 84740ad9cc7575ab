"""The service over HTTP: the one module of the library that knows a web framework."""

from __future__ import annotations

import asyncio
import functools
import json
import signal
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import FrameType
from typing import Any, TypeVar

import h11
import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from modelmill.errors import ConfigError, InputError
from modelmill.serving.batching import QueueFullError
from modelmill.serving.config import ServeConfig
from modelmill.serving.messages import DecideResponse, ErrorMessage, PredictResponse, ServiceState
from modelmill.serving.requests import DecideRequest, PredictRequest, RowError
from modelmill.serving.service import PendingRequest, Service
from modelmill.serving.typed_decisions import SystemOneRequest, SystemOneResponse
from modelmill.settings import Settings
from modelmill.version import __version__

RequestT = TypeVar("RequestT", PredictRequest, DecideRequest, SystemOneRequest)

_MOST_PROBLEMS = 10
_CLOSE = {"Connection": "close"}
"""The rest of the body is not read, so nothing else can follow on the connection."""


def serve(config: ServeConfig, settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; requests in flight are answered first.

    :param config: what to serve, and the limits.
    :param settings: where MLflow, the cache and the deployments are.
    """
    service = Service(config, settings)
    _Server(server_config(service), service).run()


def server_config(service: Service) -> uvicorn.Config:
    """Return how the service is served: the application, its address and the limits of connections."""
    config = service.config
    return uvicorn.Config(
        create_app(service),
        host=config.host,
        port=config.port,
        http=functools.partial(_Protocol, limits=config),  # type: ignore[arg-type] # only called
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        h11_max_incomplete_event_size=config.header_bytes,
        timeout_graceful_shutdown=config.finish_seconds,
    )


class _Protocol(H11Protocol):
    """A connection that ends if a request's head does not arrive in time, or if too many others are open."""

    def __init__(self, *given: Any, limits: ServeConfig, **named: Any) -> None:
        super().__init__(*given, **named)
        self._limits = limits
        self._waiting: asyncio.TimerHandle | None = None
        self.since = 0.0
        """When it began to wait for a request, on the loop's clock."""

    @property
    def idle(self) -> bool:
        """Whether no request, or only a part of its head, has arrived."""
        return bool(self.conn.their_state is h11.IDLE)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        """Close another idle connection if there are too many; if none is idle, this one."""
        super().connection_made(transport)
        self._wait()
        # A connection that was told to close stays in the list until the loop's next round.
        known = [one for one in self.connections if isinstance(one, _Protocol)]
        kept = [one for one in known if not one.transport.is_closing()]
        if len(kept) > self._limits.connections:
            others = [one for one in kept if one.idle and one is not self]
            min(others, key=lambda one: one.since, default=self).transport.close()

    def data_received(self, data: bytes) -> None:
        """Give a head its time from its first byte on."""
        if self._waiting is None and self.idle:
            self._wait()
        super().data_received(data)
        if self._waiting is not None and not self.idle:
            self._waiting.cancel()
            self._waiting = None

    def on_response_complete(self) -> None:
        """Be idle from now on."""
        self.since = self.loop.time()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        if self._waiting is not None:
            self._waiting.cancel()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self.since = self.loop.time()
        self._waiting = self.loop.call_later(self._limits.header_seconds, self.transport.close)


class _OneLength:
    """Refuses a request with two lengths: a proxy that goes by the other one takes its end for a request.

    :param app: answers all others.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it and end the connection."""
        names = {name for name, _ in scope.get("headers", ())}
        if {b"content-length", b"transfer-encoding"} <= names:
            detail = "a request has Content-Length or Transfer-Encoding, not both"
            await JSONResponse({"detail": detail}, 400, _CLOSE)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


class _Server(uvicorn.Server):
    """Says that it leaves before it does: a port that is closed at once resets connections on their way."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if sig != signal.SIGTERM or self._service.leaving:
            super().handle_exit(sig, frame)
            return
        self._service.leaving = True
        timer = threading.Timer(self._service.config.leave_seconds, super().handle_exit, (sig, frame))
        timer.daemon = True
        timer.start()


def create_app(service: Service) -> FastAPI:
    """Return the application.

    :param service: started and closed with the application.
    :return: the application.
    """

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await asyncio.to_thread(service.close)

    # The pages that FastAPI makes of the OpenAPI document load scripts from elsewhere.
    app = FastAPI(title="modelmill", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_middleware(_OneLength)
    _add_answers(app, service)
    _add_states(app, service)
    return app


def _add_answers(app: FastAPI, service: Service) -> None:
    _add_post(app, service, "/v1/predict", _predict, (PredictRequest, PredictResponse))
    _add_post(app, service, "/v1/systemone", _systemone, (SystemOneRequest, SystemOneResponse))
    if service.decider is not None:
        _add_post(app, service, "/v1/decide", _decide, (DecideRequest, DecideResponse))


def _add_post(
    app: FastAPI,
    service: Service,
    path: str,
    answer: Callable[[Service, Request], Awaitable[Response]],
    types: tuple[type[BaseModel], type[BaseModel]],
) -> None:
    problems = {
        400: "The body is no JSON.",
        404: "A signal is not served.",
        408: "The body did not arrive in time.",
        413: "The body, or its number of rows, is over the limit.",
        422: "The JSON is no such request.",
        503: "The queue is full; Retry-After says when to try again.",
    }

    @app.post(
        path,
        summary=(types[0].__doc__ or "").strip(),
        response_model=types[1],
        responses={status: {"description": text, "model": ErrorMessage} for status, text in problems.items()},
        # The body is read here and not by the framework, which has no limit for its size.
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": _inlined(types[0].model_json_schema())}},
            }
        },
    )
    async def post(request: Request) -> Response:
        began = time.perf_counter()
        status = 500
        try:
            response = await answer(service, request)
            status = response.status_code
            return response
        except HTTPException as error:
            status = error.status_code
            raise
        finally:
            service.metrics.requests.labels(status).inc()
            service.metrics.request_seconds.observe(time.perf_counter() - began)


async def _asked(service: Service, request: Request, kind: type[RequestT]) -> RequestT:
    """Read a request, and check its size."""
    config = service.config
    try:
        async with asyncio.timeout(config.body_seconds):
            body = await _body(request, config.body_bytes)
    except TimeoutError as error:
        raise HTTPException(408, f"a body arrives in {config.body_seconds:g} s", _CLOSE) from error
    except ClientDisconnect as error:  # it has left, or sent what is no chunk
        raise HTTPException(400, "the body must arrive whole", _CLOSE) from error
    asked = _parsed(body, kind)
    most = min(config.request_rows, config.queue_rows)  # more would never be taken
    if len(asked.rows) > most:
        raise HTTPException(413, f"a request has at most {most} rows; got {len(asked.rows)}; send several")
    return asked


async def _decide(service: Service, request: Request) -> Response:
    asked = await _asked(service, request, DecideRequest)
    if service.decider is None:
        raise HTTPException(404, "no rule set is served")
    try:
        found = await asyncio.to_thread(service.decider.decide, asked.rows, explain=asked.explain)
    except QueueFullError as error:
        raise HTTPException(503, str(error), {"Retry-After": str(error.retry_after)}) from error
    except InputError as error:
        raise HTTPException(422, str(error)) from error
    return _json({"rows": found})


@contextmanager
def _refusals() -> Iterator[None]:
    """Turn what a request is refused for into a status of HTTP."""
    try:
        yield
    except ConfigError as error:
        raise HTTPException(404, str(error)) from error
    except RowError as error:
        raise HTTPException(422, str(error)) from error
    except QueueFullError as error:
        raise HTTPException(503, str(error), {"Retry-After": str(error.retry_after)}) from error


async def _systemone(service: Service, request: Request) -> Response:
    asked = await _asked(service, request, SystemOneRequest)
    champions = service.follower.active.champions
    if not champions.models:
        raise HTTPException(503, "no model is in use yet; see /readyz", {"Retry-After": "1"})
    with _refusals():
        found = await asyncio.to_thread(service.typed_decisions.answer, asked, champions)
    return _json(found.model_dump())


async def _predict(service: Service, request: Request) -> Response:
    asked = await _asked(service, request, PredictRequest)
    if not service.follower.active.champions.models:
        raise HTTPException(503, "no model is in use yet; see /readyz", {"Retry-After": "1"})
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def finished() -> None:
        loop.call_soon_threadsafe(done.set)

    with _refusals():
        if service.reads_images:  # to decode them takes long, and the loop has others to serve
            pending = await asyncio.to_thread(service.submit, asked, finished)
        else:
            pending = service.submit(asked, finished)
    await done.wait()
    return _response(pending)


def _response(pending: PendingRequest) -> Response:
    if pending.failed:
        raise HTTPException(500, "a row could not be scored; the service's log says why")
    return _json(pending.content())


def _json(content: Any) -> Response:
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return Response(text, media_type="application/json")


async def _body(request: Request, limit: int) -> bytes:
    """Read the body, and stop where it grows too long."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise HTTPException(413, f"a body has at most {limit} bytes; send several requests", _CLOSE)
        parts.append(part)
    return b"".join(parts)


def _parsed(body: bytes, kind: type[RequestT]) -> RequestT:
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)
        lines = [
            f"{'.'.join(map(str, item['loc'])) or 'body'}: {item['msg']}" for item in found[:_MOST_PROBLEMS]
        ]
        if len(found) > len(lines):
            lines.append(f"and {len(found) - len(lines)} more")
        status = 400 if found[0]["type"] == "json_invalid" else 422
        raise HTTPException(status, "; ".join(lines)) from error


def _add_states(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", summary="Whether the process is alive")
    async def healthz() -> dict[str, str]:
        return {"status": "alive"}

    @app.get(
        "/readyz",
        summary="Whether the service can answer",
        responses={503: {"description": "It cannot yet.", "model": ServiceState}},
    )
    async def readyz(response: Response) -> ServiceState:
        state = service.state()
        response.status_code = 200 if state.ready else 503
        return state

    @app.get("/v1/models", summary="What is in use, and what should be")
    async def models() -> ServiceState:
        return service.state()

    @app.get("/metrics", summary="Figures for Prometheus", response_class=Response)
    async def metrics() -> Response:
        return Response(service.metrics.render(), media_type=CONTENT_TYPE_LATEST)


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a JSON Schema without references: in an OpenAPI document they would point elsewhere."""
    parts = schema.pop("$defs", {})

    def resolved(value: Any) -> Any:
        if isinstance(value, dict):
            if "$ref" in value:
                return resolved(parts[value["$ref"].rpartition("/")[2]])
            return {name: resolved(item) for name, item in value.items()}
        return [resolved(item) for item in value] if isinstance(value, list) else value

    inlined: dict[str, Any] = resolved(schema)
    return inlined
