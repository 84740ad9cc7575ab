"""The folders of pipelines and rule sets, as the routes use them, for tests of the canvas: JSON lines."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from modelmill.documents.versions import ConflictError
from modelmill.pipeline.pipeline_store import PipelineStore
from modelmill.rules.lifecycle.rule_set_store import RuleSetStore

STORES = {"pipeline": PipelineStore, "rules": RuleSetStore}


def answer(store: Any, request: dict[str, Any]) -> dict[str, Any]:
    """Do one thing with a folder."""
    name = request["name"]
    if request["do"] == "read":
        stored = store.read(name)
        return {"text": stored.file.text, "etag": stored.etag}
    if request["do"] == "version":
        versions = store.versions(name)
        version = store.version(name, 1 + request["number"] % len(versions))
        return {"text": version.text}
    try:
        stored = store.save(
            name, request["text"], expected=request["over"], author=request["author"], message=""
        )
    except ConflictError as error:
        if error.current is None:  # deleted, which no sequence does
            raise
        return {"conflict": {"text": error.current.file.text, "etag": error.current.etag}}
    return {"text": stored.file.text, "etag": stored.etag}


def main() -> None:
    """Answer until the input ends; each sequence has a folder of its own."""
    with tempfile.TemporaryDirectory() as place:
        store: Any = None
        for number, line in enumerate(sys.stdin):
            request = json.loads(line)
            if request["do"] == "new":
                folder = Path(place, str(number))
                folder.mkdir()
                store = STORES[request["kind"]](str(folder))
                said = {"ok": True}
            else:
                said = answer(store, request)
            sys.stdout.write(json.dumps(said) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
