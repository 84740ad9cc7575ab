"""Why a video is refused."""

from __future__ import annotations

REASONS = {
    "missing": "there is no such file",
    "outside": "the file lies where the deployment does not allow to read",
    "link": "the path is a symbolic link",
    "not_a_file": "the path is a folder, a device or a pipe",
    "unreadable": "the file cannot be opened",
    "empty": "there are 0 bytes",
    "too_large": "there are more bytes than the limit",
    "changed": "the content is not the one that the digest names",
    "not_a_video": "no container format that is read; playlists and lists of files are none",
    "broken": "the container or its frames cannot be read",
    "truncated": "the frames end long before the declared duration",
    "no_video": "there is no video stream, only sound or data",
    "no_frames": "no frame can be decoded",
    "too_many_pixels": "the picture is larger than the limit",
    "too_many_streams": "there are more streams than the limit",
    "too_long": "the declared duration is longer than the limit",
    "deadline": "the video took longer than the limit",
    "cpu_limit": "the video took more processor time than the limit",
    "memory_limit": "the video took more memory than the limit",
    "crashed": "the process that decodes died",
}
"""Each reason, as the column ``reason`` of a quarantine has it, and what it means."""

OF_THE_PLACE = frozenset({"missing", "outside", "link", "not_a_file", "unreadable", "changed"})
"""Reasons that are about a file's place and not its content: each run tries such a video again."""


class RefusedVideoError(Exception):
    """A video that is not worked on.

    :param reason: one of :data:`REASONS`.
    :param detail: what was seen.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail or REASONS[reason]}")
        self.reason = reason
        self.detail = detail or REASONS[reason]
