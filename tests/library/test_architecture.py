"""The structure that docs/architecture.md describes is the structure of the code."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(name="architecture", scope="module")
def load_architecture() -> ModuleType:
    path = ROOT / "scripts/architecture.py"
    spec = importlib.util.spec_from_file_location("architecture", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_module_imports_itself_through_others(architecture: ModuleType) -> None:
    graph = architecture.import_graph()
    assert len(graph) > 300
    assert architecture.circles(graph) == []


def test_every_module_is_on_a_floor(architecture: ModuleType) -> None:
    assert architecture.outside(architecture.import_graph()) == []


def test_the_picture_shows_the_code(architecture: ModuleType) -> None:
    assert architecture.problems() == []
    assert 'class="up"' not in architecture.PICTURE.read_text()


def test_import_linter_holds_the_floors_without_an_exception() -> None:
    command = Path(sys.executable).with_name("lint-imports")
    shown = subprocess.run([command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stdout
    assert "ignore_imports" not in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        ({"a": {"b"}, "b": {"c"}, "c": set()}, []),
        ({"a": {"b"}, "b": {"a"}, "c": {"a"}}, [["a", "b"]]),
        ({"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": {"e"}, "e": {"d"}}, [["d", "e"], ["a", "b", "c"]]),
    ],
)
def test_circles_are_found(
    architecture: ModuleType, graph: dict[str, set[str]], expected: list[list[str]]
) -> None:
    assert architecture.circles({name: frozenset(others) for name, others in graph.items()}) == expected


def positional(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    names = [one.arg for one in function.args.posonlyargs + function.args.args]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def test_functions_take_at_most_five_positional_arguments() -> None:
    many = []
    for folder in (
        "src",
        "operators",
        "plugins/modelmill_plugin",
        "spark_jobs",
        "demo",
        "benchmarks",
        "scripts",
    ):
        for path in sorted((ROOT / folder).rglob("*.py")):
            functions = [
                node
                for node in ast.walk(ast.parse(path.read_text()))
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            ]
            place = path.relative_to(ROOT)
            many += [f"{place}:{one.lineno} {one.name}" for one in functions if positional(one) > 5]
    assert many == []


def test_the_self_of_a_method_is_not_counted() -> None:
    (plain,) = ast.parse("def plain(a, b, /, c, *, d): ...").body
    (method,) = ast.parse("async def method(self, a, *rest): ...").body
    assert isinstance(plain, ast.FunctionDef)
    assert isinstance(method, ast.AsyncFunctionDef)
    assert (positional(plain), positional(method)) == (3, 1)
