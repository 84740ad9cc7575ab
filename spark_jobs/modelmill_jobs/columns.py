"""Columns by their exact name."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import Column


def quoted(name: str) -> Column:
    """Return a column by its exact name, whatever characters it has."""
    from pyspark.sql import functions as sql

    return sql.col(f"`{name.replace('`', '``')}`")
