"""The stub of a language model in a process of its own, so that its CPU time is not the client's."""

from __future__ import annotations

import json
import os
import signal
import sys
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

from demo.servers.language_model import Behaviour, LanguageModelStub


def forked(work: Callable[[], object]) -> int:
    """Run something in a child that ends with it."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        finally:
            os._exit(status)
    return child


Record = Callable[[str, Mapping[str, str], bytes], None]


def serve(behaviour: Behaviour, record: Record | None = None) -> tuple[int, str]:
    """Start a stub in a process of its own."""
    reads, writes = os.pipe()

    def work() -> None:
        stub = LanguageModelStub(behaviour, record=record)
        os.write(writes, f"{stub.url}\n".encode())
        stub.server.serve_forever()

    child = forked(work)
    os.close(writes)
    with os.fdopen(reads) as pipe:
        return child, pipe.readline().strip()


def end(child: int) -> int:
    """Kill a child."""
    os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def bill(url: str) -> dict[str, Any]:
    """Return what a stub has billed."""
    with urllib.request.urlopen(url, timeout=60) as answer:
        return dict(json.load(answer))
