"""Steps are killed in a system call that writes; ``benchmarks/system_call_kills.py`` kills many more."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from benchmarks.step_deaths import world as deployment
from benchmarks.system_call_kills import Tracer, kills

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")


def test_a_step_that_is_killed_in_a_system_call_ends_right_when_it_is_tried_again(tmp_path: Path) -> None:
    tracer, source = Tracer(tmp_path), random.Random(7)
    with deployment(tmp_path) as world:
        for component in ("ingest", "promote"):
            found = list(kills(world, tracer, component, 2, source))
            assert found
            assert [kill for kill in found if kill.problem] == []
