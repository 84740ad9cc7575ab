"""Deployments: what a service should serve, one small JSON file for each registered model.

The files of a service lie in one folder, ``MODELMILL_DEPLOYMENTS/SERVICE/MODEL.json``. Every pipeline writes
its own model's file and no other, so pipelines that deploy to one service have nothing to merge or to lock. A
file is replaced atomically.
"""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import ValidationError

from modelmill.errors import ConfigError, TransientError
from modelmill.options import Record
from modelmill.settings import Settings
from modelmill.system.disk import flush
from modelmill.tables.storage import is_local, table_files, table_location

CHALLENGER = "challenger"
"""Alias of the version that is proposed, and scored beside the champion."""
_SUFFIX = ".json"


class Deployment(Record):
    """What a service should do with one registered model."""

    model: str
    """Registered model; its champion answers."""
    shadow: bool = False
    """Whether the version with the alias ``challenger`` is scored beside it."""
    shadow_share: float = 1.0
    """Share of the rows that the challenger scores, from 0 to 1."""
    pipeline: str = ""
    """Pipeline that deployed it; empty if the command line named the model."""
    step_key: str = ""


def write_deployment(deployment: Deployment, service: str, settings: Settings) -> None:
    """Write what a service should do with a model.

    :param deployment: the model, and how it is served.
    :param service: name of the service.
    :param settings: where the files are.
    :raises TransientError: if the folder cannot be written.
    """
    place = table_location(f"{settings.deployments}/{service}")
    name = f"{deployment.model}{_SUFFIX}"
    content = deployment.model_dump_json(indent=2).encode()
    try:
        if is_local(place):
            Path(place).mkdir(parents=True, exist_ok=True)
            scratch = Path(place, f".{name}-{os.getpid()}")
            scratch.write_bytes(content)
            flush(scratch)
            scratch.replace(Path(place, name))
            flush(Path(place))
        else:
            with table_files(place).open_output_stream(name) as file:
                file.write(content)
    except OSError as error:
        raise TransientError(
            f"the deployments of a service must be writable ({error.strerror or error})",
            got=f"{place}/{name}",
            remedy="see MODELMILL_DEPLOYMENTS",
        ) from error


def read_deployments(service: str, settings: Settings) -> dict[str, Deployment]:
    """Return the deployments of a service.

    :param service: name of the service.
    :param settings: where the files are.
    :return: by registered model; empty if nothing has been deployed.
    :raises ConfigError: if a file is not a deployment.
    :raises TransientError: if the files cannot be read.
    """
    from pyarrow.fs import FileSelector

    place = table_location(f"{settings.deployments}/{service}")
    found: dict[str, Deployment] = {}
    try:
        files = table_files(place)
        names = [file.base_name for file in files.get_file_info(FileSelector("", allow_not_found=True))]
        for name in sorted(names):
            if name.endswith(_SUFFIX) and not name.startswith("."):
                with files.open_input_stream(name) as file:
                    content = file.read()
                found[name.removesuffix(_SUFFIX)] = _parsed(content, name, place)
    except OSError as error:
        raise TransientError(
            f"the deployments of a service must be readable ({error.strerror or error})",
            got=place,
            remedy="see MODELMILL_DEPLOYMENTS",
        ) from error
    return found


def _parsed(content: bytes, name: str, place: str) -> Deployment:
    try:
        deployment = Deployment.model_validate_json(content)
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        raise ConfigError(
            f"{'.'.join(map(str, detail['loc'])) or 'the file'}: {detail['msg']}",
            got=f"{place}/{name}",
            remedy="run the deploy step again, or delete the file",
        ) from error
    if f"{deployment.model}{_SUFFIX}" != name:
        raise ConfigError(
            "a deployment's file is named after its model",
            got=f"{deployment.model} in {place}/{name}",
            remedy="run the deploy step again, and delete the file",
        )
    return deployment
