"""``modelmill hindsight``: how the model of each past day does on the last day's test rows."""

from __future__ import annotations

from typing import Annotated

import typer

from modelmill.cli.registry import parsed_time, print_table
from modelmill.settings import Settings


def hindsight(
    pipeline: Annotated[str, typer.Argument(help="Name of the pipeline.")],
    step: Annotated[
        str, typer.Option(help="Step that makes a model, or a gate; empty: the challengers of its only gate.")
    ] = "",
    since: Annotated[str | None, typer.Option(help="First logical date; empty: the first there is.")] = None,
    until: Annotated[str | None, typer.Option(help="Last logical date; empty: the last there is.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Judge the model of each past day, of nights or of a backfill, on the last day's test rows.

    Days are logical dates of Airflow. Test rows that any of the models has learnt from are left out.
    """
    from modelmill.monitoring.hindsight import hindsight as judged
    from modelmill.monitoring.hindsight import table
    from modelmill.workspace import Workspace

    settings = Settings.from_environment()
    settings.cache.mkdir(parents=True, exist_ok=True)
    found = judged(
        pipeline,
        settings,
        Workspace(settings.home, settings.cache, log=lambda line: typer.echo(line, err=True)),
        step=step,
        since=parsed_time(since) if since else None,
        until=parsed_time(until) if until else None,
    )
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
        return
    typer.echo(f"{found.step}: {found.label}, {found.rows:,} test rows of {found.dataset}")
    for line in found.left_out:
        typer.echo(line)
    print_table(table(found))
