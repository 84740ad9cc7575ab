"""Write the app's OpenAPI document, for the canvas's client: ``python -m modelmill_plugin.openapi FILE``."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path


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


if __name__ == "__main__":
    main(sys.argv[1:])
