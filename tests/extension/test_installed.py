"""The distribution built and installed by pip, and what it adds to rule sets.

The tests below ``installed`` run with it in a process of their own, since a process reads once which kinds of
signal there are. The documentation shows the distribution's code.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
INSTALLED = sorted((HERE / "installed").glob("test_*.py"))
assert INSTALLED


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the distribution into a folder."""
    target = tmp_path_factory.mktemp("extension") / "site"
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(target)]
    done = subprocess.run([*command, str(HERE / "distribution")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return target


@pytest.mark.parametrize("tests", INSTALLED, ids=lambda path: path.stem)
def test_what_it_adds(tests: Path, site: Path) -> None:
    paths = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests)]
    environment = {**os.environ, "PYTHONPATH": paths, "MODELMILL_EXTENSION": str(site)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_documentation_shows_it() -> None:
    page = (HERE.parents[1] / "docs/extending.md").read_text()
    names = sorted(path.stem for path in (HERE / "distribution/acme_mill").glob("*.py"))
    names = [name for name in names if name not in ("__init__", "pgm")]
    assert len(names) >= 7
    shown = [f"acme_mill/{name}.py" for name in names]
    for path in shown:
        assert f"\n{(HERE / 'distribution' / path).read_text()}```" in page, path
