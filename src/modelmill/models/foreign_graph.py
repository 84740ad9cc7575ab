"""A graph from elsewhere, from our rows of pixels to logits: its preprocessing becomes part of the graph.

Whatever takes a model of images then takes this one: the pixels that are cached and hashed are bytes, as for
the models that are trained here.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from modelmill.errors import ModelError
from modelmill.models.foreign_options import ForeignModelOptions
from modelmill.tokens.images import CHANNELS, MOST_SIDE, ImageInput

_LEAST = 1e-30
"""Probability that stands for 0: its logarithm is finite in 32 bits."""
_ITS, _OURS = "imported_", "added_"
"""What the names of its values and of ours begin with."""


@dataclass(frozen=True)
class _Shape:
    """What a graph reads."""

    name: str
    dtype: int
    """ONNX's number of the element type."""
    nhwc: bool
    height: int
    width: int


def wrap(model: Any, options: ForeignModelOptions) -> ImageInput:
    """Put preprocessing before a graph, and what makes logits after it; the model is changed.

    :param model: an ``onnx.ModelProto``; then it reads ``pixels``, ``(batch, 3, height, width)`` in uint8,
        and gives ``logits``, ``(batch, outputs)``.
    :param options: how it reads images, and what its output is.
    :return: how images are brought to ``pixels``.
    :raises ModelError: if its input is no image, or the output is not there.
    """
    from onnx import TensorProto, compose, helper

    graph, shape, output = model.graph, _input(model, options), _output(model, options)
    height, width = options.resize or (shape.height, shape.width)
    if height < shape.height or width < shape.width:
        raise ModelError(
            "an image is resized to at least the size of the model's input, whose middle is read",
            got=f"{height} x {width} for an input of {shape.height} x {shape.width}",
            remedy="leave resize empty, or make it larger",
        )
    # Its values may have our names, such as logits.
    compose.add_prefix(model, _ITS, rename_functions=False, inplace=True)
    model.ClearField("training_info")
    added = _Added(graph)
    before = _before(added, shape, options, (height, width))
    after = _after(added, _ITS + output, options)
    nodes = [*before, *graph.node, *after]
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(nodes)
    pixels: list[str | int | None] = ["batch", CHANNELS, height, width]
    graph.input.append(helper.make_tensor_value_info("pixels", TensorProto.UINT8, pixels))
    graph.output.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", None]))
    model.ir_version = max(model.ir_version, 4)  # before it, weights were inputs as well
    scale = options.divide_by / 255
    order = slice(None, None, -1) if options.channels == "bgr" else slice(None)
    mean = [part * scale for part in tuple(options.mean)[order]]
    spread = [part * scale for part in tuple(options.std)[order]]
    return ImageInput(
        height=height,
        width=width,
        resampling=options.resampling,
        mean=(mean[0], mean[1], mean[2]),
        spread=(spread[0], spread[1], spread[2]),
    )


def _input(model: Any, options: ForeignModelOptions) -> _Shape:
    from onnx import TensorProto

    weights = {one.name for one in model.graph.initializer}
    inputs = [one for one in model.graph.input if one.name not in weights]
    if len(inputs) != 1:
        raise ModelError(
            "an imported model has one input: an image",
            got=", ".join(one.name for one in inputs) or "none",
            remedy="export it with one",
        )
    kind = inputs[0].type.tensor_type
    sides = [one.dim_value if one.HasField("dim_value") else 0 for one in kind.shape.dim]
    said = f"{inputs[0].name} of {[side or '?' for side in sides]}"
    readable = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8)
    if len(sides) != 4 or kind.elem_type not in readable or sides[0] > 1:
        raise ModelError(
            "an imported model reads an image: float, half or uint8, of four axes, the first for the images",
            got=said,
            remedy="export it with an input such as [1, 3, 224, 224]",
        )
    layouts = {"nchw": sides[1] in (0, CHANNELS), "nhwc": sides[3] in (0, CHANNELS)}
    fits = [name for name, fit in layouts.items() if fit and options.layout in (None, name)]
    exact = [name for name in fits if sides[{"nchw": 1, "nhwc": 3}[name]] == CHANNELS]
    fits = exact if options.layout is None else fits
    if len(fits) != 1:
        raise ModelError(
            "an imported model reads three channels, on its second axis (nchw) or on its last (nhwc)",
            got=said,
            remedy="set layout",
        )
    nhwc = fits[0] == "nhwc"
    height, width = (sides[1], sides[2]) if nhwc else (sides[2], sides[3])
    if not height or not width:
        if options.resize is None:
            raise ModelError("the model's input says no size", got=said, remedy="set resize")
        height, width = height or options.resize[0], width or options.resize[1]
    if max(height, width) > MOST_SIDE:
        raise ModelError(
            f"an imported model reads images of at most {MOST_SIDE} pixels high and wide",
            got=said,
            remedy="export it with a smaller input",
        )
    return _Shape(inputs[0].name, kind.elem_type, nhwc, height, width)


def _output(model: Any, options: ForeignModelOptions) -> str:
    names = [one.name for one in model.graph.output]
    if options.output is None and len(names) == 1:
        return str(names[0])
    if options.output is None or options.output not in names:
        raise ModelError(
            "output is one of the outputs of the imported model",
            got=options.output or "none",
            remedy=f"it has {', '.join(names)}",
        )
    return options.output


class _Added:
    """Nodes and constants that are put around a graph."""

    def __init__(self, graph: Any) -> None:
        self._graph = graph
        self._names = (f"{_OURS}{number}" for number in itertools.count())

    def constant(self, value: npt.NDArray[Any]) -> str:
        """Add a constant; return its name."""
        from onnx import numpy_helper

        name = next(self._names)
        self._graph.initializer.append(numpy_helper.from_array(value, name))
        return name

    def node(self, operator: str, inputs: Sequence[str], **attributes: Any) -> Any:
        """Make a node with one output."""
        from onnx import helper

        return helper.make_node(operator, inputs, [next(self._names)], **attributes)


def _before(added: _Added, shape: _Shape, options: ForeignModelOptions, size: tuple[int, int]) -> list[Any]:
    """Return the nodes from ``pixels`` to the graph's input."""
    from onnx import TensorProto

    nodes: list[Any] = []

    def then(operator: str, *constants: str, **attributes: Any) -> None:
        value = nodes[-1].output[0] if nodes else "pixels"
        nodes.append(added.node(operator, [value, *constants], **attributes))

    for axis, whole, part in ((2, size[0], shape.height), (3, size[1], shape.width)):
        if whole != part:  # the middle; Gather is the same in all opsets
            start = (whole - part) // 2
            then("Gather", added.constant(np.arange(start, start + part)), axis=axis)
    if options.channels == "bgr":
        then("Gather", added.constant(np.array([2, 1, 0])), axis=1)
    then("Cast", to=TensorProto.FLOAT)
    if options.divide_by != 1:
        then("Div", added.constant(np.array(options.divide_by, np.float32)))
    for operator, numbers, nothing in (("Sub", options.mean, 0.0), ("Div", options.std, 1.0)):
        if set(numbers) != {nothing}:
            then(operator, added.constant(np.array(numbers, np.float32).reshape(1, CHANNELS, 1, 1)))
    if shape.nhwc:
        then("Transpose", perm=[0, 2, 3, 1])
    then("Cast", to=shape.dtype)
    nodes[-1].output[0] = _ITS + shape.name
    return nodes


def _after(added: _Added, output: str, options: ForeignModelOptions) -> list[Any]:
    """Return the nodes from the graph's output to ``logits``."""
    from onnx import TensorProto

    flat = added.node("Flatten", [output], axis=1)
    nodes = [flat, added.node("Cast", [flat.output[0]], to=TensorProto.FLOAT)]
    if options.answers == "probabilities":
        probability = nodes[-1].output[0]
        least = added.constant(np.array(_LEAST, np.float32))
        nodes.append(added.node("Max", [probability, least]))
        nodes.append(added.node("Log", [nodes[-1].output[0]]))
        if options.target == "classes":  # of each class by itself: log p - log (1 - p)
            logarithm = nodes[-1].output[0]
            one = added.constant(np.array(1.0, np.float32))
            nodes.append(added.node("Sub", [one, probability]))
            nodes.append(added.node("Max", [nodes[-1].output[0], least]))
            nodes.append(added.node("Log", [nodes[-1].output[0]]))
            nodes.append(added.node("Sub", [logarithm, nodes[-1].output[0]]))
    nodes[-1].output[0] = "logits"
    return nodes
