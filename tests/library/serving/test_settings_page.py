"""docs/serving.md has every setting, as it is declared."""

from __future__ import annotations

from pathlib import Path

from modelmill.serving.config import ServeConfig

PAGE = Path(__file__).parents[3] / "docs/serving.md"


def table() -> str:
    """The table of settings; replace the page's with it after a change."""
    rows = ["| setting | default | |", "| --- | --- | --- |"]
    for name, field in ServeConfig.model_fields.items():
        default = field.default if field.default not in (None, ()) else ""
        shown = f"`{default:,}`".replace(",", "") if isinstance(default, int | float) else f"`{default}`"
        rows.append(
            f"| `{name}` | {shown if default != '' else ''} | {field.description} |".replace("  ", " ")
        )
    return "\n".join(rows)


def test_the_page_has_every_setting() -> None:
    assert table() in PAGE.read_text(), table()
