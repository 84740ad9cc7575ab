"""``modelmill sbom``: which distributions are installed, as a CycloneDX document."""

from __future__ import annotations

import hashlib
import json
import re
import sys
import uuid
from collections.abc import Iterator
from importlib import metadata
from typing import Any

import typer

from modelmill.version import __version__


def sbom() -> None:
    """Print a software bill of materials of this environment: CycloneDX 1.6, JSON."""
    typer.echo(json.dumps(bill_of_materials(), indent=1, sort_keys=True))


def bill_of_materials() -> dict[str, Any]:
    """Return the installed distributions with version, licence, digest and what each needs.

    The format is CycloneDX 1.6 (ECMA-424). The same environment gives the same document: there is no time in
    it, and its serial number follows from its content.

    :return: the document, for JSON.
    """
    found = {_name(one.metadata["Name"]): one for one in metadata.distributions() if "Name" in one.metadata}
    components = [_component(name, one) for name, one in sorted(found.items())]
    references = {name: _reference(name, one) for name, one in found.items()}
    dependencies = [
        {
            "ref": references[name],
            "dependsOn": sorted({references[need] for need in _needs(one) if need in references}),
        }
        for name, one in sorted(found.items())
    ]
    content = json.dumps([components, dependencies], sort_keys=True)
    serial = uuid.UUID(hashlib.sha256(content.encode()).hexdigest()[:32])
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": "modelmill-environment",
                "name": "modelmill",
                "version": __version__,
            },
            "properties": [{"name": "python", "value": ".".join(map(str, sys.version_info[:3]))}],
        },
        "components": components,
        "dependencies": dependencies,
    }


def _name(name: str) -> str:
    """Return a name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _reference(name: str, one: metadata.Distribution) -> str:
    return f"pkg:pypi/{name}@{one.version}"


def _component(name: str, one: metadata.Distribution) -> dict[str, Any]:
    record = one.read_text("RECORD")
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": _reference(name, one),
        "name": name,
        "version": one.version,
        "purl": _reference(name, one),
    }
    if "License-Expression" in one.metadata:
        component["licenses"] = [{"expression": one.metadata["License-Expression"]}]
    elif names := list(_classified(one)):
        component["licenses"] = [{"license": {"name": licence}} for licence in names]
    if record:
        # The installed files' own list of digests: the archive's is not kept after it was installed.
        digest = hashlib.sha256(record.encode()).hexdigest()
        component["properties"] = [{"name": "modelmill:sha256-of-RECORD", "value": digest}]
    return component


def _classified(one: metadata.Distribution) -> Iterator[str]:
    for classifier in one.metadata.get_all("Classifier") or ():
        if classifier.startswith("License ::"):
            yield classifier.rpartition(" :: ")[2]


def _needs(one: metadata.Distribution) -> Iterator[str]:
    for requirement in one.requires or ():
        if "extra ==" not in requirement:
            yield _name(re.split(r"[\s\[;<>=!~(]", requirement, maxsplit=1)[0])
