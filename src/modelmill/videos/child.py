"""The process that decodes: ``python -m modelmill.videos.child``. It answers requests until its input ends.

What hostile bytes can reach is this process alone: its memory, its processor time and its open files are
limited by the kernel, and its environment holds no credentials.
"""

from __future__ import annotations

import contextlib
import io
import os
import pkgutil
import resource
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import PurePath
from typing import BinaryIO

from modelmill.errors import ConfigError
from modelmill.videos.containers import libav
from modelmill.videos.example import tiny_video
from modelmill.videos.limits import VideoLimits
from modelmill.videos.messages import LENGTH, Message, packed, unpacked
from modelmill.videos.refusals import RefusedVideoError
from modelmill.videos.sources import Source, open_source
from modelmill.videos.tasks import TASKS, Work


def main() -> None:
    """Answer requests from standard input on standard output."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    try:
        tasks = _loaded(sys.argv[1:])
    except (ConfigError, ImportError) as error:
        answers.write(packed({"failed": str(error)}))
        answers.flush()
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    answers.write(packed({"ready": True}))
    answers.flush()
    while (request := _next(requests)) is not None:
        answers.write(packed(_answer(tasks, request)))
        answers.flush()


def _loaded(asked: Sequence[str]) -> dict[str, Work]:
    """Import all that the tasks use: once a video is open, nothing else can be.

    :param asked: names of tasks; none: all that need PyAV alone.
    :return: the tasks by name.
    """
    av = libav()
    parts = (part.name for part in pkgutil.walk_packages(av.__path__, "av."))
    for module in (
        *(part for part in parts if "__main__" not in part),
        "encodings.idna",
        "numpy.fft",
        "numpy.ma",
    ):
        import_module(module)
    from PIL import Image

    Image.init()
    wanted = asked or [name for name, task in TASKS.items() if task.extra == "video"]
    tasks = {name: TASKS[name].load() for name in wanted}
    content = tiny_video()
    for name, work in tasks.items():
        work(Source(io.BytesIO(content), len(content)), VideoLimits(), TASKS[name].example)
    return tasks


def _next(requests: BinaryIO) -> Message | None:
    head = requests.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    return unpacked(requests.read(LENGTH.unpack(head)[0]))


def _answer(tasks: Mapping[str, Work], request: Message) -> Message:
    limits = VideoLimits.model_validate(request["limits"])
    _limit(limits)
    task = tasks[request["task"]]
    try:
        with open_source(request["source"], limits) as source, _no_further_files():
            return {"rows": task(source, limits, request["options"])}
    except RefusedVideoError as error:
        return {"reason": error.reason, "detail": error.detail}
    except MemoryError:
        return {"reason": "memory_limit", "detail": f"more than {limits.memory_mb} MB"}
    except Exception as error:  # a bug or a trick of the file: reported, and the next video is read
        where = traceback.extract_tb(error.__traceback__)[-1]
        text = f"{type(error).__name__} in {PurePath(where.filename).name}:{where.lineno}: {error}"
        return {"reason": "broken", "detail": text[:500]}


def _limit(limits: VideoLimits) -> None:
    memory = limits.memory_mb << 20
    resource.setrlimit(resource.RLIMIT_AS, (memory, resource.RLIM_INFINITY))
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime) + 1 + limits.cpu_seconds
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))


@contextlib.contextmanager
def _no_further_files() -> Iterator[None]:
    """Make the kernel refuse to open files and sockets: whatever a file names, nothing else is read."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)  # the lowest number that is free: all below are taken
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    main()
    sys.exit(0)
