"""Options of the trainings.

Where a choice has options of its own, the type of these options selects the algorithm.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from modelmill.options import Options


class TemperatureScaling(Options):
    """Divide the logits by one number."""

    kind: Literal["temperature"] = "temperature"


class IsotonicRegression(Options):
    """Bend each class's probability by a rising curve: for a thousand validation rows and more."""

    kind: Literal["isotonic"] = "isotonic"


CalibrationOptions = Annotated[TemperatureScaling | IsotonicRegression, Field(discriminator="kind")]


class LinearHead(Options):
    """One linear layer on the mean over the tokens."""

    kind: Literal["linear"] = "linear"


class MlpHead(Options):
    """One hidden layer (ReLU) on the mean over the tokens."""

    kind: Literal["mlp"] = "mlp"
    width: int = Field(64, ge=1, le=4096, description="Units of the hidden layer.")


class AttentionHead(Options):
    """A linear layer on a mean whose weights the head learns too: for a few telling words in long texts."""

    kind: Literal["attention"] = "attention"


HeadOptions = Annotated[LinearHead | MlpHead | AttentionHead, Field(discriminator="kind")]

ClassWeights = Literal["none", "balanced"]
"""Whether rows of rare classes count more: ``balanced`` as in scikit-learn, rows / (classes x rows of it)."""


_CLASS_WEIGHTS = "balanced: rows of rare classes count more, none: every row counts the same."
_CALIBRATION = "What makes probabilities of scores, fitted on the validation split; empty: nothing."


class FullTuning(Options):
    """Train every layer above ``frozen_layers``."""

    kind: Literal["full"] = "full"


class LastLayers(Options):
    """Train the last layers only, whatever ``frozen_layers`` says."""

    kind: Literal["last_layers"] = "last_layers"
    layers: int = Field(1, ge=1, description="Number of layers.")


class LoraTuning(Options):
    """Train low-rank additions to the weights (LoRA), which are merged into them at the end."""

    kind: Literal["lora"] = "lora"
    rank: int = Field(8, ge=1, le=512, description="Rank of an addition.")
    alpha: int = Field(16, ge=1, description="Scale of an addition, divided by the rank.")
    modules: tuple[str, ...] = Field(
        (), description="Names of the layers that get one; empty: what peft chooses for the architecture."
    )


TuningMode = Annotated[FullTuning | LastLayers | LoraTuning, Field(discriminator="kind")]


class SoftLabels(Options):
    """The teacher's answers alone."""

    kind: Literal["soft_labels"] = "soft_labels"


class Relations(Options):
    """Also which tokens belong together, as the teacher's last layer sees it (MiniLMv2): more work a row."""

    kind: Literal["relations"] = "relations"
    heads: int | None = Field(
        None, ge=1, description="Relation heads; empty: as many as the teacher has attention heads."
    )
    weight: float = Field(1.0, gt=0, description="Weight of the relations beside that of the answers.")


ObjectiveOptions = Annotated[SoftLabels | Relations, Field(discriminator="kind")]


class LabelOptions(Options):
    """Which label column is learned."""

    label: str | None = Field(None, description="Label column to learn; empty: the dataset's only one.")


class TrainingOptions(Options):
    """Options of every training of an encoder."""

    epochs: float = Field(2, gt=0, le=1000, description="Passes over the train split.")
    batch_size: int = Field(16, ge=1, description="Rows per optimizer step.")
    rows_at_once: int | None = Field(
        None,
        ge=1,
        description="Rows whose gradients are computed together; those of a batch add up. Empty: the batch. "
        "Where memory runs out it is halved by itself.",
    )
    patience: int | None = Field(
        None, ge=1, description="End after so many epochs without a better one; empty: after all epochs."
    )
    learning_rate: float = Field(2e-4, gt=0, le=1, description="Peak learning rate of the encoder.")
    head_learning_rate: float = Field(1e-3, gt=0, le=1, description="Peak learning rate of the linear head.")
    warmup: float = Field(0.1, ge=0, lt=1, description="Share of the steps over which the rate rises.")
    weight_decay: float = Field(0.01, ge=0, description="AdamW's weight decay.")
    dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Dropout in training, in the encoder and before the head. On a CPU it costs a third of "
        "the speed, and with few epochs it gains little.",
    )
    frozen_layers: int = Field(0, ge=0, description="Lowest layers that keep their weights.")
    train_embeddings: bool = Field(
        False, description="Also train the embeddings: slower, and rarely better with little data."
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto",
        description="Number format of the products in training. auto: bf16 on a GPU that is measured to be "
        "faster with it, else fp32; bf16 on a CPU pays only with AMX.",
    )
    compiled: Literal["auto", "never", "always"] = Field(
        "auto",
        description="Whether PyTorch compiles the model. auto: in a long training on a GPU, where a trial of "
        "it is faster.",
    )
    seed: int = Field(0, ge=0, description="Seed of every random choice.")
    checkpoint_seconds: float = Field(
        30, gt=0, description="Time between two checkpoints, in seconds: what a dead attempt can lose."
    )


class DistillationOptions(TrainingOptions):
    """Options of every training under a teacher."""

    learning_rate: float = Field(3e-4, gt=0, le=1, description="Peak learning rate of the encoder.")
    temperature: float = Field(2.0, gt=0, description="Softens the teacher's distribution.")
    soft_weight: float = Field(
        0.7, ge=0, le=1, description="Weight of the soft labels; the rest is for the labels."
    )
    objective: ObjectiveOptions = Field(
        SoftLabels(), description="What the student learns of the teacher besides its answers."
    )


class ImageOptions(Options):
    """How an encoder of images reads them."""

    image_size: int | None = Field(
        None,
        ge=8,
        le=1024,
        description="Images: side in pixels that it reads; empty: as the base model says.",
    )
    early_layers: int = Field(
        4,
        ge=0,
        le=16,
        description="Images: layers from the first on whose mean and spread are features beside the last "
        "one's mean. They tell how an image looks (blur, borders, light), the last one what it shows.",
    )


class FineTuningOptions(ImageOptions, TrainingOptions):
    """Options of :func:`modelmill.training.fine_tuning.fine_tune`."""

    frozen_layers: int = Field(2, ge=0, description="Lowest layers that keep their weights.")
    mode: TuningMode = Field(FullTuning(), description="Which weights are trained.")
    class_weights: ClassWeights = Field("none", description=_CLASS_WEIGHTS)
    calibration: CalibrationOptions | None = Field(TemperatureScaling(), description=_CALIBRATION)
    base_model: str = Field(
        "",
        description="Folder with config.json, tokenizer.json and model.safetensors, or Hugging Face id "
        "(taken from the local cache; downloaded only with HF_HUB_OFFLINE=0). Empty: the model on the input "
        "base.",
    )
    max_tokens: int = Field(64, ge=8, le=8192, description="Tokens of a text that the encoder reads.")
    lexical_tokens: int = Field(
        256,
        ge=0,
        le=8192,
        description="Tokens that the lexical head reads: a linear model over the words, fitted in seconds, "
        "added to the encoder's logits. 0: no lexical head.",
    )


class AdaptationOptions(TrainingOptions):
    """Options of :func:`modelmill.training.adaptation.adapt_encoder`."""

    base_model: str = Field(
        "", description="Folder or Hugging Face id, as in fine_tune; empty: the input model."
    )
    columns: tuple[str, ...] = Field(
        ("text",), min_length=1, description="Columns with texts; of each table those that it has."
    )
    split: str | None = Field(
        None,
        description="Column that says a row's split: only those of train, and of none, are read. Empty: all.",
    )
    max_rows: int = Field(
        100_000, ge=1, description="Different texts to learn from at most; the rest is for another time."
    )
    held_out: float = Field(
        0.05,
        ge=0,
        le=0.5,
        description="Share of the different texts that are measured on, never learned from; at most 2,000.",
    )
    max_tokens: int = Field(128, ge=8, le=8192, description="Tokens of a text that are read.")
    mask_share: float = Field(
        0.15,
        gt=0,
        le=0.8,
        description="Share of the tokens that are hidden: 0.15 as in BERT; 0.4 may suit large encoders "
        "(Wettig et al. 2023).",
    )
    keep_features: float = Field(
        5.0,
        ge=0,
        description="Weight of staying near the features of before, beside finding hidden words; 0: none.",
    )
    epochs: float = Field(1, gt=0, le=1000, description="Passes over the texts.")
    batch_size: int = Field(32, ge=1, description="Texts per optimizer step.")
    learning_rate: float = Field(1e-4, gt=0, le=1, description="Peak learning rate of the encoder.")


class TeachingOptions(TrainingOptions):
    """Options of :func:`modelmill.training.multi_task.teach_encoder`."""

    # After one pass over a few hundred labels, heads that began at random have only harmed the encoder.
    epochs: float = Field(4, gt=0, le=1000, description="Passes over the train split.")
    base_model: str = Field(
        "", description="Folder or Hugging Face id, as in fine_tune; empty: the input model."
    )
    max_tokens: int = Field(128, ge=8, le=8192, description="Tokens of a text that are read.")
    size_power: float = Field(
        0.5,
        ge=0,
        le=1,
        description="A signal's share of the loss grows with its number of labels to this power: 0, each "
        "signal counts the same; 1, each label does.",
    )


class StudentOptions(DistillationOptions):
    """Options of :func:`modelmill.training.distillation.distill`."""

    max_tokens: int | None = Field(
        None, ge=8, le=8192, description="Tokens of a text that are read; empty: as the teacher."
    )
    layers: int = Field(
        2,
        ge=1,
        description="Layers of the student: for texts taken evenly from the teacher's, for images its first "
        "stages.",
    )
    student: str | None = Field(
        None,
        description="Images: folder or Hugging Face id of another encoder that the student starts from; "
        "empty: its teacher's first stages.",
    )


class MultiTeacherOptions(DistillationOptions):
    """Options of :func:`modelmill.training.multi_teacher.distill_many`."""

    layers: int = Field(2, ge=1, description="Transformer layers of the student.")
    start: str | None = Field(
        None, description="Label of the teacher whose layers the student starts from; empty: the first."
    )
    max_tokens: int | None = Field(
        None, ge=8, le=8192, description="Tokens of a text that are read; empty: as that teacher."
    )


class HeadTrainingOptions(Options):
    """Options of :func:`modelmill.training.heads.train_heads`."""

    head: HeadOptions = Field(LinearHead(), description="What a head is.")
    epochs: int = Field(60, ge=1, le=1000, description="Passes over the train split at most.")
    patience: int = Field(
        8, ge=1, description="Passes without a smaller validation loss of any head after which training ends."
    )
    batch_size: int = Field(256, ge=1, description="Rows per optimizer step.")
    learning_rate: float = Field(2e-3, gt=0, le=1, description="Learning rate.")
    weight_decay: float = Field(0.01, ge=0, description="AdamW's weight decay.")
    class_weights: ClassWeights = Field("none", description=_CLASS_WEIGHTS)
    calibration: CalibrationOptions | None = Field(TemperatureScaling(), description=_CALIBRATION)
    seed: int = Field(0, ge=0, description="Seed of every random choice.")
