"""The structure of the code, read from its imports: circles, floors, the picture of ``docs/architecture.md``.

``python scripts/architecture.py``           draws the picture again
``python scripts/architecture.py --check``   fails if there is a circle, or if the picture is out of date

An import counts wherever it stands: at the top of a module, within a function, for types only. The floors are
those of the ``layers`` contract in ``pyproject.toml``, which import-linter enforces (``./run lint``).
"""

from __future__ import annotations

import argparse
import ast
import sys
import tomllib
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs/images/floors.svg"
_SOURCES = {
    "modelmill": "src",
    "modelmill_operators": "operators",
    "modelmill_plugin": "plugins",
    "modelmill_jobs": "spark_jobs",
}

_MOST_CHARACTERS = 80

Graph = Mapping[str, frozenset[str]]
"""By module, the modules that it imports."""


def modules() -> dict[str, Path]:
    """Return the file of each module of the distribution, by name."""
    found = {}
    for package, folder in _SOURCES.items():
        for path in sorted((ROOT / folder / package).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def import_graph() -> Graph:
    """Return which module imports which, imports within functions and for types included."""
    files = modules()
    return {
        module: frozenset(_imported(ast.parse(path.read_text()), files) - {module})
        for module, path in files.items()
    }


def _imported(tree: ast.Module, known: Mapping[str, Path]) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            # ``from package import module`` imports the module, any other name comes from the package itself.
            names |= inside & known.keys() or {node.module}
    return names & known.keys()


def circles(graph: Graph) -> list[list[str]]:
    """Return the sets of modules that import each other, in circles (R. Tarjan, 1972).

    :param graph: which module imports which.
    :return: the strongly connected components of more than one module; none if there is no circle.
    """
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for other in sorted(graph[module]):
            if other not in index:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], index[other])
        if low[module] == index[module]:
            component = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            if len(component) > 1:
                found.append(sorted(component))

    for module in graph:
        if module not in index:
            visit(module)
    return found


def floors() -> list[list[str]]:
    """Return the rooms of each floor, from the top: packages and modules that the contract names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = project["tool"]["importlinter"]["contracts"]
    (layers,) = [
        contract["layers"]
        for contract in contracts
        if contract["type"] == "layers" and "containers" not in contract
    ]
    return [[room.strip() for room in layer.split("|")] for layer in layers]


def room_of(module: str, rooms: list[str]) -> str | None:
    """Return the room that a module lies in; None if it lies in none."""
    return next((room for room in rooms if f"{module}.".startswith(f"{room}.")), None)


def outside(graph: Graph) -> list[str]:
    """Return the modules that are on no floor: only the package's own face may be."""
    rooms = [room for floor in floors() for room in floor]
    faces = {"modelmill", "modelmill.__main__"}
    return [module for module in graph if room_of(module, rooms) is None and module not in faces]


def _edges(graph: Graph, rooms: list[str]) -> set[tuple[str, str]]:
    pairs = ((room_of(one, rooms), room_of(other, rooms)) for one in graph for other in graph[one])
    return {(one, other) for one, other in pairs if one and other and one != other}


def picture() -> str:
    """Return the picture: a row for each room with its purpose, and a mark where it imports another room."""
    graph, files = import_graph(), modules()
    stacked = floors()
    rooms = [room for floor in stacked for room in floor]
    edges = _edges(graph, rooms)
    line, left, width = 26, 700, 24
    top = 150
    height = top + line * len(rooms) + 20
    parts = [*_head(left + width * len(rooms) + 30, height)]
    row = 0
    for number, floor in enumerate(stacked):
        y = top + line * row
        if number % 2 == 0:
            parts.append(f'<rect class="band" y="{y}" width="100%" height="{line * len(floor)}"/>')
        for room in floor:
            parts += _row(room, files[room], y=top + line * row + 18)
            row += 1
    for place, room in enumerate(rooms):
        x, y = left + width * place + 12, top - 10
        parts.append(
            f'<text class="name" transform="translate({x + 4} {y}) rotate(-60)">{_short(room)}</text>'
        )
        parts.append(f'<rect class="self" x="{x - 5}" y="{top + line * place + 8}" width="10" height="10"/>')
    for one, other in sorted(edges):
        x, y = left + width * rooms.index(other) + 12, top + line * rooms.index(one) + 13
        kind = "down" if rooms.index(other) > rooms.index(one) else "up"
        parts.append(f'<circle class="{kind}" cx="{x}" cy="{y}" r="4.5"/>')
    return "\n".join([*parts, "</svg>", ""])


def _head(width: int, height: int) -> Iterator[str]:
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="system-ui, sans-serif" font-size="13">'
    )
    yield (
        "<style>svg{background:#fff}.band{fill:#f1f5f9}.name{fill:#0f172a;font-weight:600}"
        ".what{fill:#475569}.self{fill:#94a3b8}.down{fill:#0369a1}.up{fill:#dc2626}</style>"
    )
    yield '<text class="name" x="16" y="28" font-size="17">The floors of modelmill</text>'
    yield (
        '<text class="what" x="16" y="50">A dot: the room of the row imports the room of the column.</text>'
        '<text class="what" x="16" y="68">All dots stand right of the squares: every import goes down.</text>'
    )


def _row(room: str, path: Path, *, y: int) -> Iterator[str]:
    yield f'<text class="name" x="16" y="{y}">{_short(room)}</text>'
    yield f'<text class="what" x="170" y="{y}">{escape(purpose(path))}</text>'


def _short(room: str) -> str:
    return room.removeprefix("modelmill.").removeprefix("modelmill_")


def purpose(path: Path) -> str:
    """Return what a module is for: the first line of its docstring."""
    return (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n")[0]


def problems() -> list[str]:
    """Return everything that is wrong with the structure, one sentence each."""
    graph = import_graph()
    found = [f"these modules import each other: {', '.join(circle)}" for circle in circles(graph)]
    found += [f"{module} is on no floor: add it to the layers in pyproject.toml" for module in outside(graph)]
    files = modules()
    found += [
        f"the first line of {room}'s docstring must have at most {_MOST_CHARACTERS} characters (the picture)"
        for floor in floors()
        for room in floor
        if len(purpose(files[room])) > _MOST_CHARACTERS
    ]
    if not PICTURE.exists() or PICTURE.read_text() != picture():
        found.append(f"{PICTURE.relative_to(ROOT)} is out of date: run python scripts/architecture.py")
    return found


def main() -> int:
    """Draw the picture, or check the structure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--check", action="store_true", help="change nothing; exit with 1 if something is wrong"
    )
    if not parser.parse_args().check:
        PICTURE.write_text(picture())
        return 0
    found = problems()
    print("\n".join(found) or "no circles; every module is on a floor; the picture is up to date")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
