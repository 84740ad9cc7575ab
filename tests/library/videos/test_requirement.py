"""Without PyAV the steps are still declared, and running one names the extra."""

from __future__ import annotations

import sys

import pytest

from modelmill.artifacts import TableRef
from modelmill.errors import ConfigError
from modelmill.pipeline.catalogue import component_named
from modelmill.videos.containers import libav
from modelmill.videos.requests import ProbeVideosRequest
from modelmill_jobs import probe_videos


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    assert component_named("measure_videos").help.startswith("Measure videos")
    with pytest.raises(ConfigError, match=r"pip install 'modelmill\[video\]'"):
        libav()
    request = ProbeVideosRequest(table=TableRef(uri="/none", version=0), to="/a", quarantine="/b")
    with pytest.raises(ConfigError, match="videos need an extra"):
        probe_videos.main(request, None)  # type: ignore[arg-type]


def test_a_declaration_imports_no_libav() -> None:
    import subprocess

    text = "import modelmill.steps.make_defects, modelmill.signals.video, sys; print('av' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
