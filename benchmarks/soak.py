"""Nights in a row of a small pipeline under a retention policy, with faults from a seed.

    python -m benchmarks.soak --nights 200 --folder /tmp/soak

Each night some rows land, or none; then a pipeline of seven steps runs (ingest, dataset, teacher, exported
student, gate, promotion, scoring), each step in a process, and after it ``modelmill gc --apply``. Steps and
removals are killed with SIGKILL or asked to stop at random moments, find a disk that takes no more (a limit
on the size of files, from the kernel), or files that were damaged overnight; what failed is tried again, as
Airflow does. A night is a day by the clock of the soak. Every morning the rows are counted, and runs,
versions and the ledger compared; every fifth everything that an alias, a rollback, the gate, the ledger
within its days or a time travel within its days needs is loaded. At the end it prints the disk's use by
night. What was done is kept in the folder: the same command goes on, night by night, with the same faults.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import gc
import importlib
import json
import os
import random
import resource
import select
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import soak_night

FIRST_ROWS, ROWS_A_NIGHT = 240, 4
AHEAD = 1000 * soak_night.DAY
"""The clock of the first night: what the machine's own clock has noted is told from it by that."""
TRIES = 4
_HARMLESS = tuple(
    f"{name}."
    for name in (
        *("alembic", "fsspec", "mlflow", "modelmill", "opentelemetry", "pydantic", "pygments", "scipy"),
        *("sklearn", "sqlalchemy", "torch", "transformers"),
    )
)
"""Modules below these start no thread when they are imported: a fork has none of its parent's."""
_RESULT = "\x1e"
_LIMIT_SECONDS = 120.0


@dataclass
class Outcome:
    """How a process ended."""

    value: Any = None
    error: str = ""
    """Class and words of what it raised; ``killed`` if it did not live to say."""
    typed: bool = True
    """Whether the error is one of modelmill's own."""
    modules: list[str] = field(default_factory=list)
    """What it has imported that this process may import, too."""
    seconds: float = 0.0


@dataclass
class State:
    """What is kept from one night to the next."""

    night: int = 0
    """The next one."""
    seconds: dict[str, float] = field(default_factory=dict)
    """That a step took last without a fault."""
    faults: Counter[str] = field(default_factory=Counter)
    untyped: list[str] = field(default_factory=list)
    """Errors that were none of modelmill's own."""
    wrong: list[str] = field(default_factory=list)
    mornings: list[dict[str, Any]] = field(default_factory=list)
    cpu_seconds: float = 0.0

    @classmethod
    def load(cls, file: Path) -> State:
        with contextlib.suppress(FileNotFoundError):
            content = json.loads(file.read_text())
            return cls(**content | {"faults": Counter(content["faults"])})
        return cls()

    def save(self, file: Path) -> None:
        aside = file.with_suffix(".new")
        aside.write_text(json.dumps(vars(self)))
        aside.replace(file)


class Soak:
    """The nights, from a folder and a seed.

    :param folder: where everything lies.
    :param seed: decides everything but the moments at which a signal finds a process.
    :param faults: how often something happens, as a multiple of the usual.
    """

    def __init__(self, folder: Path, seed: int, *, faults: float = 1.0) -> None:
        self.folder, self.seed, self.often = folder.absolute(), seed, faults
        self.file = self.folder / "soak.json"
        self.state = State.load(self.file)
        self.random = random.Random(seed)

    def prepare(self) -> None:
        """Make the folders and the base model, unless they are there."""
        for name in ("landing", "tables", "tmp", "home"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        os.environ |= {"MODELMILL_HOME": f"{self.folder}/home", "TMPDIR": f"{self.folder}/tmp"}
        for name in list(os.environ):
            if name.startswith(("MODELMILL_", "MLFLOW_")) and name != "MODELMILL_HOME":
                del os.environ[name]
        # A database that takes nothing is asked again for so long, instead of three minutes.
        os.environ |= {"MODELMILL_MLFLOW_REPLY": "2", "MODELMILL_MLFLOW_CALL": "4"}
        if not (self.folder / "base").exists():
            self._must(self._process(lambda: soak_night.base_model(self.folder)), "the base model")
        _connect()

    def play(self, nights: int, *, until: float, say: Callable[[str], None]) -> None:
        """Play nights, from where the last ones ended.

        :param nights: how many there are in all.
        :param until: no night begins after this time (``time.monotonic``).
        :param say: gets a line for each night.
        """
        while self.state.night < nights and time.monotonic() < until and not self.state.wrong:
            self.random = random.Random(f"{self.seed}/{self.state.night}")
            before, began = dict(self.state.faults), time.monotonic()
            self._night(self.state.night)
            self.state.night += 1
            self.state.save(self.file)
            new = {name: n - before.get(name, 0) for name, n in self.state.faults.items()}
            told = ", ".join(f"{n} {name}" for name, n in new.items() if n) or "nothing happened"
            morning = self.state.mornings[-1]
            total = sum(morning["bytes"].values()) / 1e6
            seconds = time.monotonic() - began
            say(f"night {self.state.night}: {total:.2f} MB, {morning['counts']}, {seconds:.0f} s: {told}")
        for line in self.state.wrong:
            say(f"WRONG: {line}")

    def _night(self, night: int) -> None:
        cpu = _cpu_seconds()
        rows = self._land(night)
        damaged = self._damage() if night > 2 and self._happens(0.12) else None
        outputs = self._pipeline(careful=damaged is not None)
        if damaged is not None:
            damaged.restore()
            if outputs is None:  # what was damaged is named, somebody brings it back from a copy
                outputs = self._pipeline(careful=True)
        if outputs is None and not self.state.wrong:
            self.state.wrong.append(f"night {night}: a step did not come through")
        self._remove_old()
        whole, doubled = night % 5 == 4, damaged is not None or self.state.faults["files damaged"] > 0
        checked = self._process(
            lambda: soak_night.check(self.folder, rows=rows, whole=whole, doubled=doubled)
        )
        found = self._must(checked, "the morning's look")
        self.state.wrong += [f"night {night}: {line}" for line in found["wrong"]]
        bytes_ = soak_night.sizes(self.folder)
        self.state.mornings.append({"counts": found["counts"], "bytes": bytes_, "whole": whole, "rows": rows})
        self.state.cpu_seconds += _cpu_seconds() - cpu

    def _land(self, night: int) -> int:
        """Have the rows of a night, and of all before it; return how many."""
        rows = 0
        for earlier in range(night + 1):
            source = random.Random(f"{self.seed}/rows/{earlier}")
            new = FIRST_ROWS if not earlier else source.choice((0, ROWS_A_NIGHT, ROWS_A_NIGHT))
            file = self.folder / "landing" / f"{earlier:04d}.jsonl"
            if new and not file.exists():
                lines = [json.dumps(_row(rows + number, source)) for number in range(new)]
                aside = self.folder / f"{earlier:04d}.landing"
                aside.write_text("".join(f"{line}\n" for line in lines))
                aside.replace(file)
            rows += new
        return rows

    def _pipeline(self, *, careful: bool) -> dict[str, Any] | None:
        """Run the steps; return their outputs, or None if one has refused what was damaged."""
        outputs: dict[str, dict[str, Any]] = {}
        for name in soak_night.ORDER:
            for attempt in range(TRIES):
                fault = self._fault(name) if attempt < TRIES - 1 and not careful else {}
                step = functools.partial(soak_night.step, self.folder, name, outputs)
                done = self._process(step, **fault)
                self._note(name, done, fault)
                if not done.error:
                    outputs[name] = done.value["outputs"]
                    if not fault and not done.value["reused"]:
                        self.state.seconds[name] = done.seconds
                    break
                if careful:
                    self.state.faults["damage refused by name"] += 1
                    return None
                if not fault:
                    self.state.wrong.append(f"night {self.state.night}: {name}: {done.error}")
                    return None
        return outputs

    def _note(self, what: str, done: Outcome, fault: dict[str, Any]) -> None:
        if done.error and done.error != "killed":
            kind = "full disks" if "file_bytes" in fault else "steps that failed"
            self.state.faults[kind] += 1
            if not done.typed:
                self.state.untyped.append(f"night {self.state.night}: {what}: {done.error}")
        elif done.error:
            self.state.faults[f"killed by {fault.get('signal', signal.SIGKILL).name}"] += 1

    def _fault(self, name: str) -> dict[str, Any]:
        if self._happens(0.15):
            after = self.random.uniform(0.02, 1.1) * self.state.seconds.get(name, 2.0)
            return {
                "after": after,
                "signal": self.random.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM)),
            }
        if self._happens(0.06):
            return {"file_bytes": self.random.choice((0, 4096, 65_536, 400_000))}
        return {}

    def _remove_old(self) -> None:
        for attempt in range(TRIES):
            fault: dict[str, Any] = {}
            if attempt < TRIES - 1 and self._happens(0.25):
                fault = {"after": self.random.uniform(0.0, 1.1) * self.state.seconds.get("gc", 1.0)}
            done = self._process(lambda: soak_night.remove_old(self.folder), **fault)
            if not done.error:
                if not fault:
                    self.state.seconds["gc"] = done.seconds
                return
            self._note("gc", done, fault)
            if not fault:
                self.state.wrong.append(f"night {self.state.night}: gc: {done.error}")

    def _happens(self, chance: float) -> bool:
        return self.random.random() < chance * self.often

    def _damage(self) -> _Damaged | None:
        """Flip a bit in a file of a table, of the ledger, of a model or of the cache."""
        patterns = (
            "tables/*/**/*.parquet",
            "home/ledger/*.parquet",
            "home/mlartifacts/**/*",
            "home/cache/**/*",
        )
        places = self.folder.glob(self.random.choice(patterns))
        found = sorted(path for path in places if path.is_file() and path.stat().st_size)
        if not found:
            return None
        path = self.random.choice(found)
        before = path.read_bytes()
        place, bit = self.random.randrange(len(before)), 1 << self.random.randrange(8)
        after = before[:place] + bytes([before[place] ^ bit]) + before[place + 1 :]
        times = path.stat()
        path.write_bytes(after)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        self.state.faults["files damaged"] += 1
        return _Damaged(path, before, after)

    def _must(self, done: Outcome, what: str) -> Any:
        if done.error:
            raise RuntimeError(f"{what}: {done.error}")
        return done.value

    def _process(self, work: Callable[[], Any], **fault: Any) -> Outcome:
        ahead = AHEAD + self.state.night * soak_night.DAY
        done = in_process(lambda: _with_clock(work, ahead), **fault)
        _import(done.modules)
        _set_clock(self.folder, ahead)
        return done


@dataclass
class _Damaged:
    """A file with a flipped bit."""

    path: Path
    before: bytes
    after: bytes

    def restore(self) -> None:
        """Bring back its content, unless the night has removed it or made it anew."""
        with contextlib.suppress(FileNotFoundError):
            if self.path.read_bytes() == self.after:
                self.path.write_bytes(self.before)


def _with_clock(work: Callable[[], Any], ahead: float) -> Any:
    with soak_night.clock_ahead(ahead):
        return work()


def _set_clock(folder: Path, ahead: float) -> None:
    """Give what the machine's clock has noted since the last time the time of the soak."""
    now = time.time()
    for root, folders, names in os.walk(folder):
        for name in (*names, *folders):
            path = f"{root}/{name}"
            with contextlib.suppress(FileNotFoundError):
                status = os.lstat(path)
                read, written = (
                    moment if moment > now + AHEAD / 2 else moment + ahead
                    for moment in (status.st_atime, status.st_mtime)
                )
                if (read, written) != (status.st_atime, status.st_mtime):
                    os.utime(path, (read, written), follow_symlinks=False)


def in_process(
    work: Callable[[], Any],
    *,
    after: float | None = None,
    signal: signal.Signals = signal.SIGKILL,
    file_bytes: int | None = None,
) -> Outcome:
    """Do something in a fork of this process, and see how it ends.

    :param work: what; its value must be JSON.
    :param after: seconds until it gets a signal; None: it gets none.
    :param signal: which one.
    :param file_bytes: the kernel lets no file grow beyond this; None: no limit.
    :return: how it ended.
    """
    read, write = os.pipe()
    began = time.monotonic()
    gc.freeze()  # a fork's collection would copy every page
    child = os.fork()
    if child == 0:
        os.close(read)
        _work(work, write, file_bytes)
    os.close(write)
    text, killed = b"", False
    deadline = began + (_LIMIT_SECONDS if after is None else after)
    while True:
        if not select.select([read], [], [], max(0.0, deadline - time.monotonic()))[0]:
            if killed or after is None:
                _kill_group(child)
            else:
                os.kill(child, signal)
            deadline, killed = time.monotonic() + 10.0, True
            continue
        piece = os.read(read, 65_536)
        if not piece:
            break
        text += piece
    os.close(read)
    with contextlib.suppress(ProcessLookupError):  # what it has started
        os.killpg(child, 9)
    os.waitpid(child, 0)
    said = text.decode(errors="replace").rpartition(_RESULT)
    seconds = time.monotonic() - began
    if said[1]:
        with contextlib.suppress(ValueError):
            return Outcome(**json.loads(said[2]), seconds=seconds)
    if after is None and file_bytes is None:
        return Outcome(error=f"died: {said[2][-2000:]}", typed=False, seconds=seconds)
    return Outcome(error="killed", seconds=seconds)


def _kill_group(child: int) -> None:
    """Kill a process with all that it has started."""
    for kill in (os.kill, os.killpg):
        with contextlib.suppress(ProcessLookupError):
            kill(child, 9)


def _work(work: Callable[[], Any], write: int, file_bytes: int | None) -> None:
    """Do something in the fork, and say what came of it: after all that it prints."""
    from modelmill.errors import ModelmillError
    from modelmill.pipeline.runner import StepInterrupted

    said: dict[str, Any] = {}
    try:
        os.setpgid(0, 0)
        os.dup2(write, 1)
        os.dup2(write, 2)
        if file_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
        said = {"value": work(), "modules": [name for name in sys.modules if name.startswith(_HARMLESS)]}
    except BaseException as error:
        traceback.print_exc()
        said = {"error": f"{type(error).__name__}: {error}"[:600]}
        said["typed"] = isinstance(error, ModelmillError | StepInterrupted)
    finally:
        os.write(write, f"{_RESULT}{json.dumps(said)}".encode())
        os._exit(0)


def _row(number: int, source: random.Random) -> dict[str, str]:
    from benchmarks.factory_pipeline import WORDS

    label = ("sport", "trade")[number % 2]
    words = source.choices(WORDS[:4] if label == "sport" else WORDS[4:8], k=3)
    words += source.choices(WORDS[8:], k=source.randint(1, 6))
    source.shuffle(words)
    return {"id": f"row-{number}", "text": f"{' '.join(words)} {number}", "label": label}


def _cpu_seconds() -> float:
    return sum(
        used.ru_utime + used.ru_stime
        for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def table(state: State) -> Iterator[str]:
    """Yield the disk's use by night as lines of Markdown, and what is bounded by it."""
    kinds = sorted({kind for one in state.mornings for kind in one["bytes"]})
    kinds = [kind for kind in kinds if max(one["bytes"].get(kind, 0) for one in state.mornings) > 20_000]
    yield f"| night | rows | runs | models | versions | all, MB | {' | '.join(kinds)} |"
    yield "|" + " --- |" * (6 + len(kinds))
    last = len(state.mornings) - 1
    for night, one in enumerate(state.mornings):
        if night % 20 == 0 or night == last:
            counts = (one["counts"][name] for name in ("runs", "models", "versions"))
            parts = (one["bytes"].get(kind, 0) / 1e6 for kind in kinds)
            total = sum(one["bytes"].values()) / 1e6
            row = (night + 1, one["rows"], *counts, f"{total:.2f}", *(f"{part:.2f}" for part in parts))
            yield "| " + " | ".join(map(str, row)) + " |"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--nights", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, required=True, help="kept: the same command goes on there")
    parser.add_argument("--minutes", type=float, default=1e9, help="no night begins after these")
    parser.add_argument("--faults", type=float, default=1.0, help="how often, as a multiple of the usual")
    options = parser.parse_args()
    warm()
    soak = Soak(options.folder, options.seed, faults=options.faults)
    soak.prepare()
    until = time.monotonic() + 60 * options.minutes
    soak.play(options.nights, until=until, say=lambda line: print(line, flush=True))
    state = soak.state
    print(*table(state), sep="\n")
    loaded = Counter[str]()
    for one in state.mornings:
        loaded.update({k: n for k, n in one["counts"].items() if k.startswith("loaded")})
    print(
        f"{state.night} nights, {len(state.wrong)} wrong, "
        f"{state.cpu_seconds / max(state.night, 1):.1f} CPU s each"
    )
    print("faults:", dict(state.faults), "untyped:", len(state.untyped))
    print("loaded:", dict(loaded))
    print(*state.untyped[:20], sep="\n")
    sys.exit(bool(state.wrong))


def warm() -> None:
    """Import what the forks need, so that none of them does: nothing here starts a thread."""
    from modelmill.cli.step_forks import MODULES

    # No channel of gRPC is open when a fork is made.
    _import([*MODULES, "mlflow.store.tracking.sqlalchemy_store", "pyspark.sql.connect.session"])
    from sqlalchemy.orm import configure_mappers

    configure_mappers()


def _connect() -> None:
    """Make MLflow's client once for all forks: each opens its database itself."""
    from mlflow.tracking._model_registry.utils import _get_store as registry_store
    from mlflow.tracking._tracking_service.utils import _get_store as tracking_store
    from mlflow.utils.requirements_utils import _init_modules_to_packages_map

    from modelmill.registry.tracking import experiment_id, tracking_client
    from modelmill.settings import Settings

    # It reads what every distribution has.
    _init_modules_to_packages_map()  # type: ignore[no-untyped-call] # MLflow has no types here
    settings = Settings.from_environment()
    client = tracking_client(settings.tracking_uri)
    experiment = experiment_id(client, "soak", artifact_root=settings.home / "mlartifacts")
    client.search_runs([experiment], filter_string="tags.`modelmill.step_key` = 'none'")
    client.search_logged_models([experiment])
    client.search_model_versions("name = 'none'")
    stores = (tracking_store(), registry_store())  # type: ignore[no-untyped-call] # likewise
    for store in stores:
        store.engine.dispose()


def _import(names: Iterable[str]) -> None:
    from modelmill.system.imports import without_collections

    with without_collections(), contextlib.redirect_stderr(None):
        for name in names:
            if name not in sys.modules:
                with contextlib.suppress(ImportError):
                    importlib.import_module(name)


if __name__ == "__main__":
    main()
