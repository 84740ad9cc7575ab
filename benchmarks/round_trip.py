"""Text and document of a pipeline are the same thing: 1,000 generated pipelines there and back.

    python benchmarks/round_trip.py [--pipelines 1000]

Each text is read into a document and written back: it must come back to the byte. Then one value is changed:
the text must say the new document, with as few lines changed as can be. ruamel.yaml, where it is installed,
does the same beside it.
"""

from __future__ import annotations

import argparse
import copy
import difflib
import importlib.util
import io
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modelmill.pipeline.text import read_document, write_document

Writer = Callable[[str, Any], str]


def generator() -> Callable[[random.Random], str]:
    """Return the generator that the tests use."""
    path = Path(__file__).parents[1] / "tests" / "library" / "pipeline" / "test_text.py"
    spec = importlib.util.spec_from_file_location("test_text", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.generated


def by_ruamel(text: str, document: Any) -> str:
    """Write a document into a text as ruamel.yaml's users do: load, set what differs, dump."""
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 10_000
    loaded = yaml.load(text)

    def put(old: Any, new: Any) -> None:
        for key, value in new.items():
            if isinstance(value, dict) and isinstance(old.get(key), dict):
                put(old[key], value)
            elif old.get(key) != value:
                old[key] = value

    put(loaded, document)
    out = io.StringIO()
    yaml.dump(loaded, out)
    return out.getvalue()


def measure(name: str, write: Writer, texts: list[str]) -> None:
    """Print one line of the table."""
    same = right = lines = 0
    began = time.process_time()
    for number, text in enumerate(texts):
        document = read_document(text)
        same += write(text, document) == text
        other = copy.deepcopy(document)
        step = random.Random(number).choice(list(other["steps"]))
        other["steps"][step]["config"]["batch_size"] = number
        result = write(text, other)
        right += read_document(result) == other
        difference = difflib.ndiff(text.splitlines(), result.splitlines())
        lines += sum(line[0] in "+-" for line in difference)
    seconds = time.process_time() - began
    count = len(texts)
    print(f"{name:14} {same:>9} {right:>9} {lines / count:>14.2f} {1000 * seconds / count:>10.1f}")


def main() -> None:
    """Generate, go there and back, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pipelines", type=int, default=1000)
    count = parser.parse_args().pipelines
    make = generator()
    texts = [make(random.Random(seed)) for seed in range(count)]
    print(f"{count} pipelines, one value changed in each")
    print(f"{'':14} {'identical':>9} {'right':>9} {'lines changed':>14} {'CPU ms':>10}")
    measure("modelmill", write_document, texts)
    if importlib.util.find_spec("ruamel"):
        measure("ruamel.yaml", by_ruamel, texts)
    else:
        print("ruamel.yaml is not installed", file=sys.stderr)


if __name__ == "__main__":
    main()
