"""Artifact references: small JSON that names an immutable result.

A step hands its results on as references, never as data: a Delta table at a version, a model in MLflow,
a report. References travel through XCom, stand in MLflow tags and are hashed into step keys.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, NonNegativeInt, TypeAdapter

from modelmill.errors import ConfigError
from modelmill.options import Record

MODEL_NAME_PATTERN = r"^[A-Za-z][A-Za-z0-9_.-]{0,62}$"
"""What a registered model may be called: it is part of paths and URIs."""

ModelFormat = Literal["torch", "torchao", "encoder", "onnx", "trunk", "head", "static", "rules"]

ContentKind = Literal["text", "image"]
"""What a model reads of an example: see :mod:`modelmill.tokens.contents`."""


class Reference(Record):
    """Base of all references."""

    port_type: ClassVar[str]
    """Name of the reference's type on a port, in the canvas and in error messages."""


class TableRef(Reference):
    """A Delta table at a version."""

    port_type = "table"

    kind: Literal["table"] = "table"
    uri: str
    """Absolute path or URI of the table's directory."""
    version: NonNegativeInt
    """Delta version; 0 is the first."""

    def __str__(self) -> str:
        return f"{self.uri}@{self.version}"


class DatasetRef(Reference):
    """A Delta table made by ``build_dataset``, at a version, and the roles of its columns."""

    port_type = "dataset"

    kind: Literal["dataset"] = "dataset"
    uri: str
    version: NonNegativeInt
    key: str
    """Column with the example's key: stable between nights, unique in the table."""
    text: str | None
    """Column with the text; None if an example is an image alone."""
    image: str | None = None
    """Column with the image; None if an example is a text alone."""
    labels: tuple[str, ...]
    """Label columns, one per signal; a missing label is null."""
    split: str
    """Column with ``train``, ``validation`` or ``test``."""

    @property
    def text_column(self) -> str:
        """Column with the text, for steps that need one.

        :raises ConfigError: if an example is an image alone.
        """
        if self.text is None:
            raise ConfigError(
                "this step reads texts, and the dataset has none",
                got=str(self),
                remedy="name a text column in build_dataset",
            )
        return self.text

    @property
    def image_column(self) -> str:
        """Column with the image, for steps that need one.

        :raises ConfigError: if an example is a text alone.
        """
        if self.image is None:
            raise ConfigError(
                "this step reads images, and the dataset has none",
                got=str(self),
                remedy="name an image column in build_dataset",
            )
        return self.image

    def content_column(self, kind: ContentKind) -> str:
        """Return the column of texts or of images; ConfigError if the dataset has none."""
        return self.text_column if kind == "text" else self.image_column

    def __str__(self) -> str:
        return f"{self.uri}@{self.version}"


class ModelRef(Reference):
    """A model in MLflow."""

    port_type = "model"

    kind: Literal["model"] = "model"
    uri: str
    """``models:/m-…`` for a logged model, ``models:/NAME/VERSION`` for a registered one."""
    run_id: str
    """MLflow run that made it."""
    digest: str
    """SHA-256 over the model's files (see :func:`modelmill.models.bundle.bundle_digest`)."""
    format: ModelFormat
    role: str
    """``teacher``, ``student``, ``exported``, …: what the step that made it calls it."""
    parent: str | None = None
    """URI of the model it was made from; None for a model fine-tuned from a base model."""
    trunk: str | None = None
    """URI of the trunk that a ``head`` stands on; None for every other format."""

    @property
    def version(self) -> int:
        """Number of the registered version that it is, ``models:/NAME/VERSION``; ValueError: it is none."""
        return int(self.uri.rsplit("/", 1)[1])

    def __str__(self) -> str:
        return self.uri


class SignalsRef(Reference):
    """The models of many signals, listed in one file: the reference stays small however many they are."""

    port_type = "signals"

    kind: Literal["signals"] = "signals"
    uri: str
    """``runs:/RUN_ID/PATH`` of a JSON file: the reference of each signal's model, by the signal's name."""
    run_id: str
    digest: str
    """SHA-256 over the names and the digests of the models."""
    count: int
    """Number of signals."""

    def __str__(self) -> str:
        return self.uri


class ReportRef(Reference):
    """A JSON report in MLflow."""

    port_type = "report"

    kind: Literal["report"] = "report"
    uri: str
    """``runs:/RUN_ID/PATH`` of the JSON file."""
    run_id: str
    alarms: tuple[str, ...] = ()
    """One line for each limit that the report found broken; empty if none is, or none was checked."""

    def __str__(self) -> str:
        return self.uri


CHALLENGER = "challenger/"
"""Before the name of the metric that a gate judges its challenger by, among the metrics of the gate's run."""


class VerdictRef(Reference):
    """What a gate said of a challenger."""

    port_type = "verdict"

    kind: Literal["verdict"] = "verdict"
    passed: bool
    name: str
    """Name of the registered model that the challenger is proposed for."""
    challenger: ModelRef
    champion_version: int | None
    """Version that the alias ``champion`` pointed at when the gate looked; None if there was none."""
    reasons: tuple[str, ...]
    """One line for each check that failed; empty when it passed."""
    uri: str
    """``runs:/RUN_ID/PATH`` of the JSON report with every check, its numbers and its limit."""
    run_id: str
    summary: str = ""
    """The report in a few lines of Markdown: what a person who has to approve is shown."""
    unchanged: bool = False
    """Whether the challenger is the champion already, so that there is nothing to promote."""
    undecided: bool = False
    """Whether it did not pass only because the rows cannot show that it keeps the budget since a person last
    approved a champion: a person may let it pass."""
    approved_by: str | None = None
    """Who let it pass, and why; None where nobody was asked."""


AnyReference = Annotated[
    TableRef | DatasetRef | ModelRef | SignalsRef | ReportRef | VerdictRef, Field(discriminator="kind")
]
_ADAPTER: TypeAdapter[AnyReference] = TypeAdapter(AnyReference)


def parse_reference(value: Any) -> AnyReference:
    """Return the reference that a JSON object describes.

    :param value: what ``model_dump(mode="json")`` of a reference gave.
    :return: the reference.
    :raises pydantic.ValidationError: if it is none.
    """
    return _ADAPTER.validate_python(value)
