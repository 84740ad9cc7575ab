"""PostgreSQL and Redis on loopback, for tests of Airflow on several machines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from demo.servers import LocalPostgres, LocalRedis


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[str]:
    """Address of a PostgreSQL: user, host, port and database."""
    if LocalPostgres.binaries() is None:
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    with LocalPostgres(tmp_path / "postgres") as server:
        yield server.address()


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    """URL of a Redis."""
    if LocalRedis.program() is None:
        pytest.skip("needs Redis: apt-get install redis-server")
    with LocalRedis(tmp_path / "redis") as server:
        yield server.url
