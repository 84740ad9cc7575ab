"""A table for the tests of tables."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Three versions of one row each, by another writer than ours."""
    path = tmp_path / "table"
    for number in range(3):
        write_deltalake(str(path), pa.table({"n": [number], "t": [f"t{number}"]}), mode="append")
    return path
