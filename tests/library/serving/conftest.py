"""A registry with champions, and a service that follows it."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from safetensors.numpy import save_file

from modelmill.artifacts import DatasetRef, ModelRef
from modelmill.component import StepContext
from modelmill.compression.trunk import make_trunk
from modelmill.http_service import create_app
from modelmill.models.base_model import load_base_model
from modelmill.models.bundle import BundleInfo
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


@pytest.fixture(scope="session")
def trunk_folder(tiny_base_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Return a function that exports a trunk; those of other numbers have other weights."""
    place = tmp_path_factory.mktemp("trunks")

    @functools.cache
    def make(number: int) -> Path:
        base = load_base_model(str(tiny_base_model), max_tokens=16, dropout=0.0)
        for weights in base.encoder.parameters():
            weights.data.mul_(1 + number / 10)
        folder = place / str(number)
        make_trunk(base.encoder, folder, tokenizer=base.tokenizer, text="body", max_tokens=16)
        return folder

    return make


@pytest.fixture
def add_head(registry: Registry, trunk_folder: Callable[[int], Path], tmp_path: Path) -> Callable[..., int]:
    """Return a function that registers a head with random weights, and makes it champion.

    ``add_head(name, seed, trunk=1, champion=False)`` puts it on another trunk, and moves nothing.
    """

    @functools.cache
    def logged(number: int) -> ModelRef:
        return log_model(trunk_folder(number), role="trunk", context=registry.context)

    def add(name: str, seed: int, *, trunk: int = 0, champion: bool = True) -> int:
        stem = logged(trunk)
        width = BundleInfo.load(trunk_folder(trunk)).features or 0
        head = tmp_path / f"head-{name}-{seed}"
        head.mkdir()
        weight = np.random.default_rng(seed).normal(size=(2, width)).astype(np.float32)
        save_file({"weight": weight, "bias": np.zeros(2, np.float32)}, head / "head.safetensors")
        BundleInfo(
            format="head",
            label=name,
            classes=("no", "yes"),
            text="body",
            max_tokens=16,
            parameters=2 * width + 2,
            features=width,
            head="linear",
            trunk=stem.digest,
        ).save(head)
        model = log_model(head, role="head", dataset=registry.dataset, context=registry.context, trunk=stem)
        version = int(register(registry.context.run.client, name, model).version)
        if champion:
            registry.move(name, version)
        return version

    return add
