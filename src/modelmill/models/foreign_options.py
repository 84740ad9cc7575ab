"""How an ONNX file from elsewhere reads images and answers: Airflow's DAG processor imports these options."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from modelmill.datasets.options import LabelKind
from modelmill.options import Options

Three = tuple[float, float, float]


class ForeignModelOptions(Options):
    """How a classifier of images that was made elsewhere reads its images, and what its output means."""

    label: str = Field(
        min_length=1, description="Name of the signal: the label column that it answers, if there is one."
    )
    target: LabelKind = Field(
        "class", description="What it answers: one class an image, a set of classes, or a number."
    )
    classes: tuple[str, ...] = Field(
        (), description="Class of each number of its output, in their order; empty for a number."
    )
    output: str | None = Field(None, description="Name of the output; may be empty if the file has one.")
    answers: Literal["logits", "probabilities"] = Field(
        "logits",
        description="What the output is: numbers before the softmax (of sets of classes before the sigmoid), "
        "or after it.",
    )
    resize: tuple[int, int] | None = Field(
        None, description="Height and width to which the whole image is brought; empty: those of the input."
    )
    resampling: Literal["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"] = Field(
        "bilinear", description="How it is brought there, by Pillow."
    )
    layout: Literal["nchw", "nhwc"] | None = Field(
        None, description="Order of the input's axes; empty: where it has three channels."
    )
    channels: Literal["rgb", "bgr"] = Field("rgb", description="Order of the colours that it reads.")
    divide_by: float = Field(
        255.0,
        gt=0,
        allow_inf_nan=False,
        description="Pixels, 0 to 255, are divided by this first: 255, or 1 where the model reads 0 to 255.",
    )
    mean: Three = Field(
        (0.0, 0.0, 0.0), description="Then this is subtracted: of each channel, in the order that it reads."
    )
    std: Three = Field((1.0, 1.0, 1.0), description="Then they are divided by this, in the same order.")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.target == "number") != (not self.classes):
            raise ValueError(
                f"target {self.target} with {len(self.classes)} classes: a number alone has none"
            )
        if self.target == "class" and len(self.classes) < 2:
            raise ValueError(f"one class of {len(self.classes)} says nothing: name all of its output")
        if len(set(self.classes)) != len(self.classes) or "" in self.classes:
            raise ValueError("each class has a name of its own")
        if self.target == "number" and self.answers == "probabilities":
            raise ValueError("a number is no probability: leave answers out")
        if not all(0 < part < float("inf") for part in self.std):
            raise ValueError(f"std is above 0 for each channel; got {self.std}")
        if self.resize is not None and not all(1 <= side <= 2048 for side in self.resize):
            raise ValueError(f"resize is 1 to 2048 pixels high and wide; got {self.resize}")
        return self
