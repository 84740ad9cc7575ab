"""The candidates of a search as recipes, and what they will cost: known before any of them is made."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from modelmill.compression.options import SearchSpace
from modelmill.errors import ConfigError
from modelmill.models.attention import has_heads
from modelmill.models.encoder import layer_list


@dataclass(frozen=True, order=True)
class Structure:
    """The size of a transformer student."""

    layers: int
    tokens: int
    """Tokens that its encoder reads."""
    width: float
    """Share of each layer's inner units that stay."""
    heads: float = 1.0
    """Share of the attention heads that stay."""

    def __str__(self) -> str:
        width = "" if self.width == 1 else f", width {self.width:g}"
        heads = "" if self.heads == 1 else f", heads {self.heads:g}"
        return f"{self.layers} layer{'s' * (self.layers > 1)}, {self.tokens} tokens{width}{heads}"


@dataclass(frozen=True)
class Recipe:
    """How a candidate is made."""

    family: Literal["teacher", "transformer", "static"]
    """``teacher``: the teacher itself, not trained again."""
    structure: Structure | None = None
    """None for a static model."""
    vocabulary: Literal["seen", "all"] = "all"
    quantization: str = "none"
    pairs: int = 0
    """Buckets of token pairs (static models only)."""
    half: bool = False
    """Whether the file holds 16-bit numbers (static models only)."""

    def __str__(self) -> str:
        parts = [self.family if self.structure is None else f"{self.family}: {self.structure}"]
        if self.family == "static":
            parts += [f"{self.pairs} buckets of pairs"] * bool(self.pairs) + ["fp16" if self.half else "fp32"]
        else:
            parts.append("fp32" if self.quantization == "none" else self.quantization)
        return ", ".join([*parts, f"{self.vocabulary} tokens"])


@dataclass(frozen=True)
class Shape:
    """The size of a teacher: what its students cost follows from it."""

    layers: int
    tokens: int
    hidden: int
    inner: int
    """Inner units of a layer."""
    has_heads: bool = True
    """Whether attention heads can be taken out."""

    @classmethod
    def of(cls, encoder: Any, *, tokens: int) -> Shape:
        """Read an encoder's configuration."""
        config = encoder.config
        inner = getattr(config, "intermediate_size", None) or getattr(config, "hidden_dim", None)
        return cls(
            layers=config.num_hidden_layers,
            tokens=tokens,
            hidden=config.hidden_size,
            inner=int(inner or 4 * config.hidden_size),
            has_heads=has_heads(encoder, layer_list(encoder)[1]),
        )

    def work(self, structure: Structure) -> float:
        """Return the multiplications of a text that fills the structure's window, up to a constant."""
        attention = 2 * structure.tokens * self.hidden * structure.heads
        return structure.tokens * (self.weights(structure) + structure.layers * attention)

    def weights(self, structure: Structure) -> float:
        """Return the number of weights in a student's layers, without its embeddings."""
        attention = 4 * self.hidden**2 * structure.heads
        return structure.layers * (attention + 2 * self.hidden * self.inner * structure.width)

    @property
    def whole(self) -> Structure:
        """The teacher's own structure."""
        return Structure(self.layers, self.tokens, 1.0)


@dataclass(frozen=True)
class Line:
    """A straight line."""

    base: float
    slope: float

    @classmethod
    def through(cls, places: Sequence[float], values: Sequence[float]) -> Line:
        """Return the line through two points, given by x and y; where both have one x, it is level."""
        run = places[0] - places[1]
        slope = (values[0] - values[1]) / run if run else 0.0
        return cls(values[0] - slope * places[0], slope)

    def at(self, place: float) -> float:
        """Return y at an x."""
        return self.base + self.slope * place


def structures(space: SearchSpace, shape: Shape) -> list[Structure]:
    """Return the students that a space asks for, the cheapest first.

    :param space: the choices.
    :param shape: the teacher's.
    :return: structures, all but the teacher's own.
    :raises ConfigError: if one has more layers or tokens than the teacher.
    """
    layers = space.layers or tuple(sorted({1, min(2, shape.layers), max(1, shape.layers // 2)}))
    tokens = space.tokens or tuple(sorted({max(8, shape.tokens // 2), shape.tokens}))
    for name, values, most in (("layers", layers, shape.layers), ("tokens", tokens, shape.tokens)):
        if max(values) > most:
            raise ConfigError(
                f"space.{name} must not exceed what the teacher has, {most}",
                got=max(values),
                remedy=f"lower it to at most {most}",
            )
    heads = space.heads if shape.has_heads else (1.0,)
    parts = itertools.product(layers, tokens, space.widths, heads)
    # Heads are a small part of a layer's work until its inner part is narrow: then they go next.
    found = {Structure(*part) for part in parts if part[3] == max(heads) or part[2] == min(space.widths)} - {
        shape.whole
    }
    return sorted(found, key=lambda structure: (shape.work(structure), structure))


def recipes(space: SearchSpace, shape: Shape, *, prunable: bool) -> list[Recipe]:
    """Return every candidate; the teacher's own exports are among them, whatever the families.

    The whole vocabulary stays unless the tokenizer is ``prunable``.
    """
    words: Sequence[Literal["seen", "all"]] = [
        name for name in space.vocabularies if name == "all" or prunable
    ] or ["all"]
    finishes = list(itertools.product(words, space.quantization))
    found = [
        Recipe("teacher", shape.whole, vocabulary, method)
        for vocabulary, method in dict.fromkeys([*finishes, ("all", "none")])
    ]
    if "transformer" in space.families:
        found += [
            Recipe("transformer", structure, vocabulary, method)
            for structure in structures(space, shape)
            for vocabulary, method in finishes
        ]
    if "static" in space.families:
        found += [
            Recipe("static", vocabulary=vocabulary, pairs=pairs, half=half)
            for pairs, half, vocabulary in itertools.product(space.pairs, (False, True), words)
        ]
    return found
