"""Names of the columns that a signal's labels have."""

from __future__ import annotations


def label_columns(label: str, *, selected: bool = False) -> tuple[str, ...]:
    """Return the columns that a labelled row gets; one more where rows are selected."""
    columns = (label, f"{label}_source", f"{label}_probability", f"{label}_answer")
    return (*columns, f"{label}_inclusion") if selected else columns


def review_columns(label: str) -> tuple[str, ...]:
    """Return the columns that a row for review gets."""
    return tuple(f"{label}_{part}" for part in ("suggested", "suggested_probability", "reason", "rank"))
