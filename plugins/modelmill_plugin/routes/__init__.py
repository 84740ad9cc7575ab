"""The routes, one module for each noun."""

from __future__ import annotations

from modelmill_plugin.routes import catalogue, pipelines, versions

ROUTERS = (catalogue.router, pipelines.router, versions.router)
