"""The command line of the registry: ``modelmill registry …``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer

from modelmill.errors import EXIT_REFUSED, ConfigError, GateError
from modelmill.settings import Settings

app = typer.Typer(
    name="registry",
    help="Who is champion, who was, what it was made from; and going back.",
    no_args_is_help=True,
)

NameArgument = Annotated[str, typer.Argument(help="Registered model.")]
JsonOption = Annotated[bool, typer.Option("--json", help="As JSON.")]
_AT_HELP = "A time, such as 2026-01-31T02:00+00:00; without a zone it is UTC."


@app.command()
def history(
    name: Annotated[str | None, typer.Argument(help="Registered model; empty: all.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the rows of the ledger about a model, the oldest first."""
    from modelmill.registry.ledger import entries

    rows = entries(Settings.from_environment(), model=name)
    if as_json:
        typer.echo(json.dumps([row.model_dump(mode="json") for row in rows], indent=2))
        return
    table = [["time (UTC)", "model", "row", "action", "from", "to", "who", "why"]]
    for row in rows:
        shown = row.time.strftime("%Y-%m-%d %H:%M:%S")
        versions = (
            "-" if version is None else str(version) for version in (row.from_version, row.to_version)
        )
        why = "; ".join(row.reasons)
        table.append([shown, row.model, str(row.number), row.action, *versions, row.who, why])
    print_table(table)


@app.command()
def champion(
    name: NameArgument,
    at: Annotated[str | None, typer.Option(help=f"{_AT_HELP} Empty: now, as MLflow's alias has it.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show which version is champion, or was at a time."""
    from modelmill.registry.history import champion_at
    from modelmill.registry.promotion import champion_version

    settings = Settings.from_environment()
    if at is None:
        version = champion_version(name, settings)
    else:
        row = champion_at(name, parsed_time(at), settings)
        version = row.to_version if row else None
    if version is None:
        raise GateError(
            f"{name} must have a champion{' at that time' if at else ''}",
            got=at,
            remedy="see modelmill registry history",
        )
    typer.echo(json.dumps({"model": name, "version": version}) if as_json else str(version))


@app.command()
def lineage(
    model: Annotated[str, typer.Argument(help="NAME (its champion), NAME/VERSION or models:/m-ID.")],
    as_json: JsonOption = False,
) -> None:
    """Show what a model was made from, down to the dataset's version."""
    from modelmill.registry.lineage import lineage
    from modelmill.registry.tracking import tracking_client

    tree = lineage(model, tracking_client(Settings.from_environment().tracking_uri))
    typer.echo(tree.model_dump_json(indent=2) if as_json else "\n".join(tree.lines()))


@app.command()
def rollback(
    *,
    name: Annotated[str | None, typer.Argument(help="Registered model; empty with --together.")] = None,
    why: Annotated[str, typer.Option(help="Reason; it goes into the ledger.")],
    together: Annotated[
        int | None,
        typer.Option(
            help="Number of a joint move, as history shows it: all that it moved goes back at once."
        ),
    ] = None,
    to: Annotated[int | None, typer.Option(help="Version to go back to. Empty: the champion before.")] = None,
    at: Annotated[str | None, typer.Option(help=f"Back to the champion at a time. {_AT_HELP}")] = None,
    who: Annotated[str | None, typer.Option(help="Who wants it. Empty: the user of this process.")] = None,
    step_key: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Make an earlier version champion again, its files verified; with --together, those of many models."""
    from modelmill.registry.joint_promotion import rollback_together
    from modelmill.registry.rollback import rollback

    if together is not None and name is None:
        if (to, at) != (None, None):
            raise ConfigError(
                "a joint move goes back to the champions before it",
                got="--to or --at",
                remedy="leave them out, or roll models back one by one",
            )
        rollback_together(together, Settings.from_environment(), why=why, who=who, say=typer.echo)
        return
    if name is None or together is not None:
        raise ConfigError(
            "a rollback is of one registered model, or of a joint move",
            got="both" if name else "neither",
            remedy="write modelmill registry rollback NAME --why …, or rollback --together N --why …",
        )
    moment = None if at is None else parsed_time(at)
    rollback(
        name,
        Settings.from_environment(),
        why=why,
        to=to,
        at=moment,
        who=who,
        step_key=step_key,
        say=typer.echo,
    )


@app.command()
def guard(
    names: Annotated[list[str] | None, typer.Argument(help="Registered models; empty: all.")] = None,
    revert: Annotated[bool, typer.Option("--revert", help="Move back what was moved by hand.")] = False,
    files: Annotated[bool, typer.Option(help="Verify the champions' files.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Find champions that did not come through the gate, and damaged ones; ends in 2 if there are any."""
    from modelmill.registry.champion import Registry
    from modelmill.registry.guard import inspect
    from modelmill.registry.tracking import tracking_client

    settings = Settings.from_environment()

    def say(line: str) -> None:
        if not as_json:
            typer.echo(line)

    registry = Registry(tracking_client(settings.tracking_uri), settings, say)
    report = inspect(registry, names or (), on_hand_move="revert" if revert else "report", verify_files=files)
    if as_json:
        typer.echo(report.model_dump_json(indent=2))
    else:
        typer.echo(f"{len(report.models)} models looked at, {len(report.open)} need somebody")
    raise typer.Exit(EXIT_REFUSED if report.open else 0)


def parsed_time(text: str) -> datetime:
    """Return a time that was written as text.

    :param text: ISO 8601; without a zone it is UTC.
    :return: the time, with its zone.
    :raises ConfigError: if it is not a time.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(
            "a time is written as ISO 8601", got=text, remedy="write 2026-01-31T02:00+00:00"
        ) from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print cells in columns.

    :param rows: the head first; all of the same length.
    """
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
