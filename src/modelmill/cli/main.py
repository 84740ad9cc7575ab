"""The command line: ``modelmill --help`` lists the commands."""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

from modelmill.cli.backup import backup, restore
from modelmill.cli.doctor import doctor
from modelmill.cli.forecast import forecast
from modelmill.cli.gc import gc
from modelmill.cli.hindsight import hindsight
from modelmill.cli.morning import morning
from modelmill.cli.params import given_params
from modelmill.cli.registry import app as registry
from modelmill.cli.rules import app as rules_app
from modelmill.cli.sbom import sbom
from modelmill.cli.step_run import die_with_parent, exit_now, run_request
from modelmill.errors import EXIT_FAILED, ConfigError, ModelmillError, PipelineError
from modelmill.redaction import redacted

app = typer.Typer(
    name="modelmill",
    help="From Delta tables to small models, and from small models to explained decisions.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(registry)

app.add_typer(rules_app, name="rules")
app.command()(gc)
app.command()(backup)
app.command()(restore)
app.command()(doctor)
app.command()(sbom)
app.command()(morning)
app.command()(hindsight)
app.command()(forecast)

PipelineArgument = Annotated[str, typer.Argument(help="Path or fsspec URL of a pipeline (YAML or JSON).")]


@app.command()
def validate(
    pipelines: Annotated[list[str], typer.Argument(help="Paths or fsspec URLs of pipelines.")],
) -> None:
    """Check pipelines and list every problem with its position."""
    from modelmill.pipeline.expansion import expand
    from modelmill.pipeline.validation import load_pipeline

    failed = False
    for url in pipelines:
        try:
            spec = load_pipeline(url)
            run, written = len(expand(spec).spec.steps), len(spec.steps)
            copies = f" ({run} with each copy)" if run != written else ""
            typer.echo(f"{url}: pipeline {spec.pipeline}, {written} steps{copies}, valid")
        except PipelineError as error:
            failed = True
            for problem in error.problems:
                typer.echo(f"{url}:{problem}", err=True)
    raise typer.Exit(ConfigError("").exit_status if failed else 0)


@app.command()
def run(
    pipeline: PipelineArgument,
    param: Annotated[list[str] | None, typer.Option(help="Value of a parameter: NAME=VALUE.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="How many steps may run side by side.")] = 1,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="How each step ended, as JSON; what steps say goes to standard error."),
    ] = False,
) -> None:
    """Run a pipeline here, without Airflow. Relative paths start from the folder that you are in."""
    from modelmill.cli.run_summary import ends_as_json, mlflow_hint, summary_table
    from modelmill.pipeline.local_run import StepEnd, run_pipeline
    from modelmill.pipeline.validation import load_pipeline
    from modelmill.settings import Settings

    spec, settings, ends = load_pipeline(pipeline), Settings.from_environment(), list[StepEnd]()
    for asked_to_stop in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(asked_to_stop, _exit)
    try:
        run_pipeline(
            spec,
            settings=settings,
            params=given_params(param or []),
            jobs=jobs,
            say=lambda line: typer.echo(line, err=as_json),
            on_end=ends.append,
        )
    finally:
        if as_json:
            typer.echo(ends_as_json(ends))
        elif ends:
            typer.echo(f"\n{summary_table(ends, settings)}\n\n{mlflow_hint(settings)}")


@app.command()
def components(
    name: Annotated[str | None, typer.Argument(help="Component to describe; empty: list all.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Ports and JSON Schema, as JSON.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="As the page docs/components.md.")] = False,
) -> None:
    """List the components that a pipeline can use, or describe one: its ports, resources and fields."""
    from modelmill.cli.components import component_text, components_page
    from modelmill.pipeline.catalogue import catalogue, component_named

    shown = {name: component_named(name)} if name else catalogue()
    if as_json:
        description = {
            name: {
                "title": component.title,
                "group": component.group,
                "help": component.help,
                "inputs": {port.name: port.type.port_type for port in component.input_ports.values()},
                "outputs": {port.name: port.type.port_type for port in component.output_ports.values()},
                "config": component.config.model_json_schema(),
            }
            for name, component in shown.items()
        }
        typer.echo(json.dumps(description, indent=2))
    elif as_markdown:
        typer.echo(components_page(shown.values()), nl=False)
    elif name:
        typer.echo(component_text(shown[name]))
    else:
        for component in shown.values():
            typer.echo(f"{component.name:18} {component.group:9} {component.help}")


@app.command()
def serve(
    *,
    service: Annotated[str, typer.Option(help="Name that deploy steps know the service by.")] = "main",
    model: Annotated[
        list[str] | None, typer.Option(help="Registered model to serve; none: what deploy steps say.")
    ] = None,
    rules: Annotated[
        str | None, typer.Option(help="Rule set that decides: a path or models:/NAME@ALIAS.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8080,
    option: Annotated[
        list[str] | None, typer.Option(help="Any other setting (see docs/serving.md): NAME=VALUE.")
    ] = None,
) -> None:
    """Answer signals over HTTP with the champions, and follow their aliases."""
    from modelmill.serving.config import serve_config
    from modelmill.settings import Settings

    config = serve_config(
        {
            **given_params(option or []),
            "service": service,
            "models": model or [],
            "rules": rules,
            "host": host,
            "port": port,
        }
    )
    try:
        from modelmill.http_service import serve as run_service
    except ImportError as error:
        raise ConfigError(
            f"the service needs what is not installed ({error.name})",
            remedy="pip install 'modelmill[service]'",
        ) from error
    run_service(config, Settings.from_environment())


@app.command(hidden=True)
def step(
    request: Annotated[Path, typer.Argument(help="JSON file with a step request.")],
    result: Annotated[Path, typer.Option(help="JSON file that gets the result.")],
) -> None:
    """Run one step of a pipeline: what an operator starts."""
    parent = os.environ.pop("MODELMILL_PARENT", None)
    if parent is not None:
        die_with_parent(int(parent))
    status = run_request(request, result)
    if status == 0:
        exit_now(0)
    raise typer.Exit(status)


def main() -> None:
    """Run the command line. An error of modelmill's own is one line on standard error; others show where."""
    # A step with a retryable error ends in 1, with any other of modelmill's errors in 2: see errors.py.
    try:
        app()
    except Exception as error:
        sys.exit(told(error))


def told(error: Exception) -> int:
    """Say on standard error why a process ends, and return its exit status."""
    known = _known(error)
    if known is None:
        typer.echo(redacted("".join(traceback.format_exception(error))), err=True)
        return EXIT_FAILED
    typer.echo(f"modelmill: {type(known).__name__}: {known}", err=True)
    return known.exit_status


def _known(error: Exception) -> ModelmillError | None:
    """Return the error if it is ours, or about MLflow."""
    if isinstance(error, ModelmillError) or "mlflow" not in sys.modules:
        return error if isinstance(error, ModelmillError) else None
    from modelmill.registry.mlflow_calls import mlflow_error
    from modelmill.settings import Settings

    return mlflow_error(error, Settings.from_environment().tracking_uri)


def _exit(number: int, _frame: object) -> None:
    """End in an orderly way: the step that runs is stopped, and marks its MLflow run."""
    for again in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(again, signal.SIG_IGN)
    sys.exit(128 + number)


__all__ = ["app", "main"]
