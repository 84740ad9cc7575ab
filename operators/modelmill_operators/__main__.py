"""``python -m modelmill_operators``: what an administrator runs beside ``airflow``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from modelmill.errors import ModelmillError
from modelmill_operators.profile_checks import apply_pools, missing_parts, profile_line
from modelmill_operators.profiles import configured_profiles

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def _commands() -> None:
    """Do what an administrator of Airflow has to do."""


@app.command()
def profiles(
    apply: Annotated[bool, typer.Option("--apply", help="Make the pools that the profiles name.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Fail if a pool, or a worker that listens on a queue, is missing.")
    ] = False,
) -> None:
    """List the kinds of machines that steps may run on."""
    found = configured_profiles()
    for name, profile in found.items():
        typer.echo(profile_line(name, profile))
    if apply:
        for line in apply_pools(found):
            typer.echo(line)
    if check:
        missing = missing_parts(found)
        for line in missing:
            typer.echo(line, err=True)
        raise typer.Exit(1 if missing else 0)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, add_help_option=False
)
def triggerer(context: typer.Context) -> None:
    """Run `airflow triggerer`, with its options, made for pipelines of hundreds of steps."""
    from airflow import __version__
    from airflow.__main__ import main as airflow

    if __version__.startswith("3.3."):
        from modelmill_operators.triggerer import install

        install()
    else:
        typer.echo(f"Airflow {__version__} runs its own triggerer: modelmill's is made for 3.3", err=True)
    sys.argv = ["airflow", "triggerer", *context.args]
    airflow()  # type: ignore[no-untyped-call] # Airflow has no types here


def main() -> None:
    """Run the command line; an error of modelmill's own is one line."""
    try:
        app()
    except ModelmillError as error:
        typer.echo(f"{type(error).__name__}: {error}", err=True)
        sys.exit(error.exit_status)


if __name__ == "__main__":
    main()
