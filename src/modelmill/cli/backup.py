"""``modelmill backup`` and ``modelmill restore``: what a deployment cannot make again."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from modelmill.settings import Settings, environment_params

PipelinesOption = Annotated[
    str | None, typer.Option(help="Folder or fsspec URL of the pipelines. Default: MODELMILL_PIPELINES.")
]
RulesOption = Annotated[
    str | None, typer.Option(help="Folder or fsspec URL of the rule sets. Default: MODELMILL_PARAM_RULES.")
]


def backup(
    to: Annotated[str, typer.Argument(help="Empty folder or fsspec URL that gets the backup.")],
    pipelines: PipelinesOption = None,
    rules: RulesOption = None,
    every_version: Annotated[
        bool,
        typer.Option(
            "--every-version",
            help="Keep the files of all versions of models; without, of those in use and of those before.",
        ),
    ] = False,
) -> None:
    """Copy pipelines, rule sets, labelling, ledger, deployments and registry, with the models in use."""
    from modelmill.registry.backup import write_backup

    settings = Settings.from_environment()
    places = _places(settings, pipelines, rules)
    for name in {"pipelines", "rules"} - places.keys():
        typer.echo(f"no {name}: name their folder with --{name} if there are any")
    manifest = write_backup(to, places=places, settings=settings, every_version=every_version, say=typer.echo)
    size = sum(file.size for file in manifest.files) / 1e6
    typer.echo(f"{len(manifest.files)} files, {size:,.1f} MB, in {to}")


def restore(
    of: Annotated[str, typer.Argument(help="Backup: a folder or an fsspec URL.")],
    pipelines: PipelinesOption = None,
    rules: RulesOption = None,
    check: Annotated[bool, typer.Option("--check", help="Only check that the backup is complete.")] = False,
) -> None:
    """Put a backup into this deployment, whose MLflow, ledger and folders hold nothing else."""
    from modelmill.registry.backup import read_manifest, restore_backup

    if check:
        manifest = read_manifest(of)
        typer.echo(
            f"{len(manifest.files)} files of {manifest.time:%Y-%m-%d %H:%M:%S} UTC, as they were written"
        )
        return
    settings = Settings.from_environment()
    restore_backup(of, places=_places(settings, pipelines, rules), settings=settings, say=typer.echo)


def _places(settings: Settings, pipelines: str | None, rules: str | None) -> dict[str, str]:
    found = {
        "pipelines": pipelines or os.environ.get("MODELMILL_PIPELINES"),
        "rules": rules or environment_params().get("rules"),
        "labelling": settings.queues,
    }
    return {name: place for name, place in found.items() if place}
