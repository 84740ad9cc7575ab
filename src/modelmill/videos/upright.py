"""Frames as a player shows them: a phone that is held upright writes lying pictures, and how to turn them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelmill.videos.containers import libav

if TYPE_CHECKING:
    from av import VideoFrame
    from av.filter import Graph

_FILTERS = {
    90: (("transpose", "cclock"),),
    180: (("hflip", ""), ("vflip", "")),
    270: (("transpose", "clock"),),
}
"""Filters of libav for each rotation, which is counted in degrees against the clock."""


def is_lying(rotation: float) -> bool:
    """Return whether width and height change places where a frame of this rotation is shown."""
    return round(rotation) % 180 == 90


class Upright:
    """Turns frames by what their side data say. What is no multiple of 90 degrees is left as it is."""

    def __init__(self) -> None:
        self._graph: Graph | None = None
        self._form: tuple[int, int, str, int] | None = None

    def of(self, frame: VideoFrame) -> VideoFrame:
        """Return a frame as it is shown: itself, where nothing is to be turned."""
        rotation = round(frame.rotation) % 360
        if rotation not in _FILTERS:
            return frame
        form = (frame.width, frame.height, frame.format.name, rotation)
        if self._graph is None or form != self._form:
            self._graph, self._form = _graph(frame, rotation), form
        self._graph.vpush(frame)
        turned: VideoFrame = self._graph.vpull()
        return turned


def _graph(frame: VideoFrame, rotation: int) -> Graph:
    graph = libav().filter.Graph()
    graph.threads = 1
    last = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
    )
    for name, options in (*_FILTERS[rotation], ("buffersink", "")):
        node = graph.add(name, options) if options else graph.add(name)
        last.link_to(node)
        last = node
    graph.configure()
    return graph  # type: ignore[no-any-return]
