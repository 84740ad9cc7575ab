"""A clock that tests turn."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from types import ModuleType, SimpleNamespace

import pytest


class Clock:
    """Time that passes only where a test, or a pause, lets it pass."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.wall = datetime.now(UTC)
        self.pauses: list[float] = []
        self.meanwhile: Callable[[], None] = lambda: None

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds
        self.meanwhile()

    def drive(self, module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let a module have this clock in place of the machine's."""
        made = self

        class Wall(datetime):
            @classmethod
            def now(cls, tz: object = None) -> datetime:
                assert tz is UTC
                return made.wall

        time = SimpleNamespace(monotonic=lambda: made.now, sleep=made.sleep)
        monkeypatch.setattr(module, "time", time, raising=False)
        monkeypatch.setattr(module, "datetime", Wall)
