"""``modelmill morning``: what happened last night, as a text, a page, or JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modelmill.errors import ConfigError
from modelmill.settings import Settings


def morning(
    day: Annotated[
        str | None,
        typer.Argument(help="Date of the morning, such as 2026-01-31; empty: the last --hours."),
    ] = None,
    hours: Annotated[float, typer.Option(min=0.01, help="How far back, if no day is given.")] = 24.0,
    page: Annotated[
        Path | None, typer.Option("--html", help="Also write it as a page: one file, without scripts.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, instead of the text.")] = False,
) -> None:
    """Tell what was trained, promoted, refused, what drifted, what failed, and what it cost.

    It ends with 0 even where steps have failed: it is told, not judged. What could not be read makes it 1.
    """
    from modelmill.monitoring.morning import morning as night_told
    from modelmill.monitoring.morning import night_of
    from modelmill.monitoring.morning_page import as_html, as_text

    since, until = night_of(day, hours=hours)
    night = night_told(Settings.from_environment(), since=since, until=until)
    if page is not None:
        try:
            page.write_text(as_html(night))
        except OSError as error:
            raise ConfigError(
                f"the page must be writable ({error.strerror})", got=str(page), remedy="name another file"
            ) from error
    typer.echo(night.model_dump_json(indent=2) if as_json else as_text(night))
    raise typer.Exit(1 if night.unknown else 0)
