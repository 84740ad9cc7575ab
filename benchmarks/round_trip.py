"""An edit of a pipeline on the canvas, written back into its text: 1,000 generated pipelines there and back.

    ./run python -m benchmarks.round_trip [--pipelines 1000]

Each text is read into a document and written back: it must come back to the byte. Then one value is changed:
the text must stand for the new document, as the loader reads it, with as few lines changed as possible.
The canvas writes in Node. ruamel.yaml, if it is installed, does the same beside it.
"""

from __future__ import annotations

import argparse
import copy
import difflib
import importlib.util
import io
import random
import resource
import runpy
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

TESTS = Path(__file__).parents[1] / "tests" / "canvas" / "test_text.py"

Pairs = list[tuple[str, Any]]
Write = Callable[[Pairs], list[str]]


def by_ruamel(pairs: Pairs) -> list[str]:
    """Write documents into texts as users of ruamel.yaml do: load, set what differs, dump."""
    from ruamel.yaml import YAML

    reader = YAML()
    reader.preserve_quotes = True
    reader.width = 10_000

    def put(old: Any, new: Any) -> None:
        for key, value in new.items():
            if isinstance(value, dict) and isinstance(old.get(key), dict):
                put(old[key], value)
            elif old.get(key) != value:
                old[key] = value

    written = []
    for text, document in pairs:
        loaded = reader.load(text)
        put(loaded, document)
        out = io.StringIO()
        reader.dump(loaded, out)
        written.append(out.getvalue())
    return written


def cpu_seconds() -> float:
    """Return the CPU time of this process and of the children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def measure(name: str, write: Write, texts: list[str]) -> None:
    """Print one line of the table."""
    documents = [yaml.safe_load(text) for text in texts]
    others = copy.deepcopy(documents)
    for number, other in enumerate(others):
        step = random.Random(number).choice(list(other["steps"]))
        other["steps"][step]["config"]["batch_size"] = number
    began = cpu_seconds()
    same = write(list(zip(texts, documents, strict=True)))
    changed = write(list(zip(texts, others, strict=True)))
    seconds = cpu_seconds() - began
    count, lines = len(texts), 0
    for text, result in zip(texts, changed, strict=True):
        difference = difflib.ndiff(text.splitlines(), result.splitlines())
        lines += sum(line[0] in "+-" for line in difference)
    identical = sum(text == found for text, found in zip(texts, same, strict=True))
    right = sum(yaml.safe_load(found) == other for found, other in zip(changed, others, strict=True))
    print(f"{name:14} {identical:>9} {right:>9} {lines / count:>14.2f} {1000 * seconds / count:>10.1f}")


def main() -> None:
    """Generate, go there and back, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pipelines", type=int, default=1000)
    count = parser.parse_args().pipelines
    tests = runpy.run_path(str(TESTS))
    texts = [tests["generated"](random.Random(seed)) for seed in range(count)]
    print(f"{count} pipelines, one value changed in each")
    print(f"{'':14} {'identical':>9} {'right':>9} {'lines changed':>14} {'CPU ms':>10}")
    with tempfile.TemporaryDirectory() as folder:
        measure("canvas", tests["writer"](Path(folder)), texts)
    if importlib.util.find_spec("ruamel"):
        measure("ruamel.yaml", by_ruamel, texts)
    else:
        print("ruamel.yaml is not installed", file=sys.stderr)


if __name__ == "__main__":
    main()
