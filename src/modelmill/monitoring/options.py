"""What is compared with the training data, and when that raises an alarm."""

from __future__ import annotations

from pydantic import Field

from modelmill.artifacts import MODEL_NAME_PATTERN
from modelmill.options import Options


class MonitorOptions(Options):
    """Columns, limits, and where labels are."""

    name: str = Field(
        pattern=MODEL_NAME_PATTERN,
        description="Name of what is monitored, such as the registered model's; part of the asset.",
    )
    columns: tuple[str, ...] = Field(
        (), description="Columns to compare; empty: all simple ones that both tables have."
    )
    max_psi: float = Field(
        0.1,
        gt=0,
        description="Drift below this population stability index is none (0.1: small, 0.25: large).",
    )
    false_alarms: float = Field(
        0.01,
        gt=0,
        lt=0.5,
        description="Chance of an alarm of drift where nothing has changed, over all columns together.",
    )
    min_rows: int = Field(100, ge=20, description="With fewer rows on either side nothing is judged.")
    key: str | None = Field(
        None, description="Column that rows and labels share, where the labels are a table of their own."
    )
    label: str | None = Field(
        None, description="Column with the true class, null until it is known; empty: quality is not judged."
    )
    time: str | None = Field(None, description="Column of the scored table with the time of the row.")
    label_delay_hours: float = Field(
        0.0,
        ge=0,
        description="Rows younger than this are not judged, labelled or not: early labels are not like the "
        "others.",
    )
    min_labelled: float = Field(
        0.5, ge=0, le=1, description="Share of the rows old enough that must have labels to be judged."
    )
    max_drop: float = Field(
        0.02, ge=0, lt=1, description="Largest accepted drop of the accuracy against the held-out rows."
    )
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Confidence that the drop is larger.")
