"""The wheel: what is in it, and that an Airflow which has only the wheel finds everything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {"modelmill", "modelmill_operators", "modelmill_plugin", "modelmill_jobs"}
HEAVY = ("torch", "transformers", "pyspark", "mlflow", "deltalake", "pandas", "sklearn", "onnxruntime")
DAG_FILE = """
from modelmill_operators.loader import load_pipelines
globals().update(load_pipelines({folder!r}))  # a file for Airflow and its DAG parser
"""
PARSE = """
import json, sys
import modelmill, modelmill_operators, modelmill_plugin
from airflow.dag_processing.dagbag import DagBag
bag = DagBag()
loaded = {name.partition(".")[0] for name in sys.modules}
places = [module.__file__ for module in (modelmill, modelmill_operators, modelmill_plugin)]
print(json.dumps([sorted(bag.dags), bag.import_errors, sorted(loaded & set(sys.argv[1:])), places]))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    [path] = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the wheel.

    Airflow itself is this environment's: the path entry shows its packages, but not what their ``.pth`` files
    would add, so that modelmill can come from the wheel only.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index"]
    done = subprocess.run([*pip, str(wheel)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    [site] = folder.glob("lib/python*/site-packages")
    (site / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A fresh Airflow whose one DAG file loads the shipped pipelines."""
    home = tmp_path_factory.mktemp("home")
    (home / "dags").mkdir()
    (home / "dags" / "loader.py").write_text(DAG_FILE.format(folder=str(ROOT / "dags" / "pipelines")))
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {
        **inherited,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:5000",
    }


def output_of(python: Path, environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run([str(python), *arguments], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def test_the_wheel_holds_the_packages_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    roots = {name.split("/")[0] for name in names}
    [metadata] = [root for root in roots if root.endswith(".dist-info")]
    assert roots == {*PACKAGES, metadata}
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(names)
    assert f"{metadata}/licenses/LICENSE" in names
    assert not [name for name in names if name.split("/")[-1].startswith(("test_", "conftest"))]
    assert not [name for name in names if "canvas/" in name or "node_modules" in name]
    for package, source in (("modelmill", "src"), ("modelmill_operators", "operators")):
        sources = {str(file.relative_to(ROOT / source)) for file in (ROOT / source / package).rglob("*.py")}
        assert sources <= set(names)
    # The servers of the demo and the tests are no part of it.
    assert not [name for name in names if name.endswith(("_server.py", "_client.py", "processes.py"))]
    assert (ROOT / "demo" / "servers" / "airflow_server.py").exists()


def test_the_built_canvas_is_in_the_wheel(wheel: Path) -> None:
    built = {
        f"modelmill_plugin/{file.relative_to(ROOT / 'plugins' / 'modelmill_plugin')}"
        for file in (ROOT / "plugins" / "modelmill_plugin" / "static").rglob("*")
        if file.is_file()
    }
    if not built:
        pytest.skip("plugins/modelmill_plugin/static is empty: the canvas has not been built")
    assert built <= set(zipfile.ZipFile(wheel).namelist())


def test_airflow_lists_the_provider_and_the_plugin(python: Path, environment: dict[str, str]) -> None:
    providers = json.loads(output_of(python, environment, "-m", "airflow", "providers", "list", "-o", "json"))
    assert "modelmill" in {provider["package_name"] for provider in providers}
    plugins = json.loads(output_of(python, environment, "-m", "airflow", "plugins", "-o", "json"))
    [plugin] = [plugin for plugin in plugins if plugin["name"] == "modelmill"]
    assert "http://127.0.0.1:5000" in str(plugin["external_views"])


def test_airflow_parses_pipelines_and_imports_nothing_heavy(
    python: Path, environment: dict[str, str]
) -> None:
    dags, errors, heavy, places = json.loads(output_of(python, environment, "-c", PARSE, *HEAVY))
    assert errors == {}
    assert "reuters_nightly" in dags
    assert heavy == []
    assert all(Path(place).is_relative_to(python.parents[1]) for place in places)
