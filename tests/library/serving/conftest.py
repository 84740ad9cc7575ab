"""A registry with champions, and a service that follows it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from modelmill.artifacts import DatasetRef, ModelRef
from modelmill.component import StepContext
from modelmill.http_service import create_app
from modelmill.registry.bundles import log_model
from modelmill.registry.versions import register
from modelmill.serving.config import ServeConfig
from modelmill.serving.service import Service


@dataclass(frozen=True)
class Registry:
    """Registers models, as a promotion does, and moves aliases."""

    make: Callable[..., Path]
    dataset: DatasetRef
    context: StepContext

    def add(self, name: str, bundle: str, **how: float) -> int:
        """Register a model with a bundle of its own; return the version."""
        return int(register(self.context.run.client, name, self.log(bundle, **how)).version)

    def log(self, bundle: str, **how: float) -> ModelRef:
        """Log a model."""
        return log_model(
            self.make(bundle, **how), role="exported", dataset=self.dataset, context=self.context
        )

    def move(self, name: str, version: int, *, alias: str = "champion") -> None:
        """Move an alias."""
        self.context.run.client.set_registered_model_alias(name, alias, str(version))


@pytest.fixture
def registry(
    make_bundle: Callable[..., Path], topic_dataset: DatasetRef, step_context: StepContext
) -> Registry:
    return Registry(make_bundle, topic_dataset, step_context)


class Asked:
    """A service in this process, and a client of it."""

    def __init__(self, service: Service, client: TestClient) -> None:
        self.service = service
        self.client = client

    def predict(self, *texts: str | None, **more: Any) -> dict[str, Any]:
        """Ask, and return the answer; it must be one."""
        response = self.client.post("/v1/predict", json={"rows": [{"text": text} for text in texts], **more})
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = json.loads(response.text)
        return answer

    def metric(self, name: str, **labels: str) -> float:
        """Return one of the figures for Prometheus."""
        value = self.service.metrics.registry.get_sample_value(f"modelmill_{name}", labels)
        return 0.0 if value is None else value


@pytest.fixture
def served(registry: Registry) -> Callable[..., Any]:
    """Return a context manager that runs a service; it looks at the registry when it is told to."""

    @contextmanager
    def run(**config: Any) -> Iterator[Asked]:
        service = Service(ServeConfig(poll_seconds=3600, threads=2, **config), registry.context.settings)
        service.follower.poll()
        service.start = lambda: None  # type: ignore[method-assign]
        service.follower.close = lambda: None  # type: ignore[method-assign]
        with TestClient(create_app(service)) as client:
            yield Asked(service, client)

    return run
