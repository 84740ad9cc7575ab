"""What has to be on the disk before something else relies on it."""

from __future__ import annotations

import os
from pathlib import Path


def flush(path: Path) -> None:
    """Wait until a file, or the list of files of a folder, is on the disk.

    :param path: the file or folder.
    :raises OSError: if it cannot be written out.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
