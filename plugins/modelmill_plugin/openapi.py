"""Write the app's OpenAPI document, for the canvas's client: ``python -m modelmill_plugin.openapi FILE``.

It prints the document's digest, which the client's file begins with: a test compares it with the app's.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any


def main(arguments: list[str]) -> None:
    """Write the document; neither a server nor a database is needed.

    :param arguments: the file to write.
    :raises SystemExit: without exactly one.
    """
    if len(arguments) != 1:
        raise SystemExit("usage: python -m modelmill_plugin.openapi FILE")
    with tempfile.TemporaryDirectory(prefix="modelmill-openapi-") as home:
        os.environ["AIRFLOW_HOME"] = home  # importing Airflow writes its configuration there
        from modelmill_plugin.app import create_app

        document = create_app().openapi()
    Path(arguments[0]).write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")
    print(document_digest(document))


def document_digest(document: dict[str, Any]) -> str:
    """Return what changes with the routes, and not with modelmill's version.

    :param document: the OpenAPI document.
    :return: SHA-256 of its paths and models.
    """
    told = {name: document[name] for name in ("paths", "components")}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


if __name__ == "__main__":
    main(sys.argv[1:])
