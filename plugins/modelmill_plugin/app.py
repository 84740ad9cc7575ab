"""The plugin's FastAPI app: what the canvas asks. Airflow mounts it below ``/modelmill``."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi.staticfiles import StaticFiles

from modelmill.version import __version__
from modelmill_plugin.errors import install_handlers
from modelmill_plugin.routes import ROUTERS
from modelmill_plugin.security import RequestShield, check_guarded

STATIC = Path(__file__).with_name("static")


def create_app() -> FastAPI:
    """Return the app.

    :return: the app; every route is guarded, static files apart.
    :raises RuntimeError: if a route has no guard.
    """
    app = FastAPI(
        title="modelmill",
        version=__version__,
        docs_url=None,  # pages of documentation, and the schema, would be open to anybody
        redoc_url=None,
        openapi_url=None,
        generate_unique_id_function=_operation_id,
    )
    for router in ROUTERS:
        app.include_router(router, prefix="/api")
    if STATIC.is_dir():
        app.mount("/static", StaticFiles(directory=STATIC), name="static")
    install_handlers(app)
    app.add_middleware(RequestShield)
    check_guarded(app)
    return app


def _operation_id(route: APIRoute) -> str:
    return route.name
