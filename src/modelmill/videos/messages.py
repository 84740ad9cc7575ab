"""Messages between a process and the limited process that decodes for it: JSON with a length before it.

JSON rather than pickle: what comes from a process that decodes hostile files must not run code.
"""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

LENGTH = struct.Struct(">Q")
LARGEST = 512 << 20
"""Bytes of a message; a longer one is a fault of the sender."""

Message = dict[str, Any]


def packed(message: Message) -> bytes:
    """Return a message as bytes.

    :param message: JSON, and bytes as values at any depth.
    :return: its length in 8 bytes, then the text.
    """
    text = json.dumps(message, default=_bytes_out).encode()
    return LENGTH.pack(len(text)) + text


def unpacked(text: bytes) -> Message:
    """Return a message from its bytes, without the length."""
    message: Message = json.loads(text, object_hook=_bytes_in)
    return message


def _bytes_out(value: object) -> dict[str, str]:
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode("ascii")}
    raise TypeError(f"a message has no {type(value).__name__}")


def _bytes_in(value: dict[str, Any]) -> Any:
    return base64.b64decode(value["$bytes"]) if value.keys() == {"$bytes"} else value
