"""What can be chosen when a language model labels rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, SerializerFunctionWrapHandler, model_serializer, model_validator

from modelmill.extensions import NameOf
from modelmill.language_models.dialects import DIALECTS, Parameters
from modelmill.language_models.labelled_columns import label_columns, review_columns
from modelmill.language_models.prices import Prices, SpendingLimit
from modelmill.language_models.questions import CANNOT_TELL, Question, Questionnaire
from modelmill.options import Options


class LocalModel(Options):
    """A language model of a folder, which the step asks itself."""

    folder: str = Field(
        min_length=1,
        description="As save_pretrained writes it: config.json, tokenizer.json, model.safetensors and a chat "
        "template.",
    )
    scoring: Literal["options", "letters"] = Field(
        "options",
        description="What is scored as the answer: options, the labels themselves, by the mean log "
        "probability of their tokens; letters, A to Z, which stand for at most 26 labels.",
    )
    calibrated: bool = Field(
        True,
        description="Divide by what the model answers about a row without content, which takes away most of "
        "its preference for certain labels and places.",
    )


class Batching(Options):
    """Requests that go out together, and are answered within hours: many endpoints charge half for that."""

    window: str = Field(
        "24h", min_length=1, description="Time within which the endpoint answers, as it wants it written."
    )
    poll_seconds: float = Field(
        300, ge=1, description="Seconds between two looks at a batch; no task slot is held meanwhile."
    )
    requests: int = Field(
        50_000, ge=1, le=50_000, description="Of a batch at most; more go into several, side by side."
    )


class Asking(Options):
    """How an endpoint is asked."""

    model: str = Field(
        min_length=1,
        description="The model's name with its date or version, such as gpt-5-mini-2026-08-07: answers are "
        "kept under it.",
    )
    dialect: Annotated[str, NameOf(DIALECTS)] = Field(
        "chat",
        description="Protocol; chat: /chat/completions with a JSON schema; systemone and "
        "decisions: /systemone and /decisions, typed decisions with a probability for each label; local: a "
        "model of a folder, in the step's own process.",
    )
    local: LocalModel | None = Field(None, description="The model that dialect local asks.")
    max_tokens: int = Field(
        64, ge=1, le=100_000, description="Tokens of an answer at most; about several signals, for each."
    )
    seed: int = Field(0, description="Sent to the endpoint.")
    body: dict[str, JsonValue] = Field(
        {},
        description="More fields of each request, or others in place of ours; null leaves one out. "
        "An example is {max_tokens: null, max_completion_tokens: 64}.",
    )
    concurrency: int = Field(8, ge=1, le=256, description="Requests at a time.")
    requests_per_minute: int | None = Field(None, ge=1, description="Empty: not limited.")
    tokens_per_minute: int | None = Field(None, ge=1, description="Input and output; empty: not limited.")
    timeout_seconds: float = Field(
        60,
        gt=0,
        description="Seconds that a request may take, from its start to the last byte of the answer.",
    )
    attempts: int = Field(
        6, ge=1, le=100, description="Requests at most for one content whose answers are lost."
    )
    batch: Batching | None = Field(
        None,
        description="Send the requests as batches (/files and /batches), which are answered within hours, "
        "often for half the price: give the prices of batches. Empty: each request is answered at once.",
    )

    @model_validator(mode="after")
    def _has_folder(self) -> Asking:
        if (self.dialect == "local") != (self.local is not None):
            raise ValueError("dialect local asks the model of a folder: give both, or neither")
        if self.local is not None and self.batch is not None:
            raise ValueError("a model of a folder is asked in the step's own process: leave out batch")
        return self

    def parameters(self, *, questions: int = 1) -> Parameters:
        """Return what is the same in every request.

        :param questions: how many each request holds.
        :return: the parameters.
        """
        most = self.max_tokens * questions
        return Parameters(self.model, max_tokens=most, seed=self.seed, body=dict(self.body))


class RowSelection(Options):
    """Ask about some rows only, chosen in rounds: each learns from the answers of the rounds before."""

    rows: int = Field(ge=1, description="Different contents to ask about, gold rows not counted.")
    rounds: int = Field(5, ge=1, le=100, description="Rounds, of equal size.")
    random_share: float = Field(
        0.2,
        ge=0,
        le=1,
        description="Share of each round that is chosen at random; of the first one, all, as long as fewer "
        "than two labels are known.",
    )


class LlmSignal(Options):
    """One signal: a question about each row, and what its labels by hand must prove."""

    labels: dict[str, str] = Field(
        min_length=2, max_length=1000, description="What each label means, by label; may be empty."
    )
    instructions: str = Field("", description="What the labels are about, and how to decide.")
    gold: str | None = Field(
        None, description="Column with labels by hand, null where there is none; may be the label column."
    )
    precision: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Share of each label's rows that are right, which the gold rows must prove; labels "
        "for which they do not are not given. Empty: every answer is a label.",
    )


_MOST_TOKENS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "max_new_tokens", "n_predict")
"""Fields of a request by which endpoints bound the tokens of an answer."""
_ANSWERS = ("n", "best_of")
"""Fields of a request by which endpoints make several answers."""

OF_ONE_SIGNAL = ("labels", "label", "instructions", "gold", "precision")
"""Options of a step with one signal: with several, each has its own."""


class LlmLabellingOptions(Options):
    """What a language model is asked about each row, and which of its answers become labels."""

    labels: dict[str, str] = Field(
        {},
        max_length=1000,
        description="What each label means, by label; may be empty. Of one signal; for several, see signals.",
        json_schema_extra={"x-first": True},
    )
    signals: dict[str, LlmSignal] = Field(
        {},
        max_length=64,
        description="Several signals, by the label column to write, in place of labels, label, instructions, "
        "gold and precision: where the dialect can, one request asks for all of them.",
        json_schema_extra={"x-first": True},
    )
    columns: tuple[str, ...] = Field(
        min_length=1, description="Columns that leave for the endpoint; nothing else of a row ever does."
    )
    instructions: str = Field("", description="What the labels are about, and how to decide.")
    label: str = Field(
        "label", min_length=1, description="Label column to write; others begin with its name and _."
    )
    gold: str | None = Field(
        None, description="Column with labels by hand, null where there is none; may be the label column."
    )
    asking: Asking = Field(description="Model and limits.")
    budget: SpendingLimit = Field(description="What may be spent on one result, over all its attempts.")
    prices: Prices | None = Field(None, description="What the endpoint bills; needed for a budget of money.")
    abstain: bool = Field(True, description="Whether the language model may answer that it cannot tell.")
    orders: int = Field(
        1,
        ge=1,
        le=8,
        description="Each row is asked with the labels in so many orders; the share of answers for the label "
        "is its score.",
    )
    gold_orders: int = Field(
        2,
        ge=1,
        le=8,
        description="Gold rows are asked in so many orders at least, to show what the order changes.",
    )
    precision: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Share of each label's rows that are right, which the gold rows must prove; labels "
        "for which they do not are not given. Empty: every answer is a label.",
    )
    doubt: float = Field(
        0.05, gt=0, lt=0.5, description="Chance that a proof holds for the gold rows alone, over all labels."
    )
    select: RowSelection | None = Field(
        None, description="Which rows to ask about; empty: all. Gold rows are asked about in any case."
    )
    pilot_rows: int = Field(
        50, ge=10, description="Contents that are asked first, for a forecast of the bill."
    )
    over_budget: Literal["refuse", "spend"] = Field(
        "refuse",
        description="What happens if the forecast exceeds the budget: stop after the pilot, or label as many "
        "rows as it lasts for.",
    )
    review_rows: int = Field(
        10_000,
        ge=0,
        description="Rows at most in the table for review, for each signal; the most useful ones first.",
    )

    @model_validator(mode="after")
    def _fits(self) -> LlmLabellingOptions:
        if self.budget.money is not None and self.prices is None:
            raise ValueError("a budget of money needs prices: input_per_million and output_per_million")
        if len(set(self.columns)) < len(self.columns):
            raise ValueError(f"columns are named once: {', '.join(self.columns)}")
        self._check_one_or_several()
        for name, signal in self.by_name.items():
            self._check_signal(name, signal)
        self._check_body()
        return self

    def _check_body(self) -> None:
        """Check that an answer costs no more than is reserved for it, as far as the request's fields tell."""
        asking = self.asking
        most = asking.max_tokens * max(1, len(self.signals))
        for names, allowed in ((_MOST_TOKENS, most), (_ANSWERS, 1)):
            for name in names:
                value = asking.body.get(name)
                if isinstance(value, int | float) and value > allowed:
                    remedy = "one answer is used" if names is _ANSWERS else "raise max_tokens"
                    raise ValueError(
                        f"body lets an answer cost more than the budget reserves for it: {name} is "
                        f"{value:g}, and {allowed:,} is reserved; {remedy}"
                    )

    def _check_one_or_several(self) -> None:
        if not self.signals:
            if len(self.labels) < 2:
                raise ValueError(
                    "labels are two or more; for several signals, each has its labels under signals"
                )
            return
        fields = LlmLabellingOptions.model_fields
        both = [name for name in OF_ONE_SIGNAL if getattr(self, name) != fields[name].default]
        if both:
            raise ValueError(f"with signals, each signal has its own: leave out {', '.join(both)}")
        owner: dict[str, str] = {}
        for name in self.signals:
            if not name.strip():
                raise ValueError("a signal has a name: that of the label column to write")
            for column in (*label_columns(name, selected=True), *review_columns(name)):
                other = owner.setdefault(column.lower(), name)
                if other != name:
                    raise ValueError(f"signals {other!r} and {name!r} would both write the column {column!r}")

    def _check_signal(self, name: str, signal: LlmSignal) -> None:
        for label in signal.labels:
            if not label.strip() or label == CANNOT_TELL:
                raise ValueError(f"a label is a text, and not {CANNOT_TELL!r}: {label!r}")
        if signal.gold in self.columns or name in self.columns:
            raise ValueError("the gold column and the label column must not leave: they give the answer away")
        if signal.precision is not None and signal.gold is None:
            raise ValueError("precision is proved on gold rows: name their column under gold")

    @model_serializer(mode="wrap")
    def _without_signals(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out ``signals`` where there is one: the key of its step is as it was before."""
        found: dict[str, Any] = handler(self)
        return {name: value for name, value in found.items() if name != "signals" or value}

    @property
    def by_name(self) -> dict[str, LlmSignal]:
        """Every signal, by its label column."""
        if self.signals:
            return dict(self.signals)
        own = LlmSignal.model_construct(
            labels=self.labels, instructions=self.instructions, gold=self.gold, precision=self.precision
        )
        return {self.label: own}

    def all_orders(self, names: Iterable[str]) -> int:
        """Return the orders in which gold rows are asked.

        :param names: signals that are asked about in one request.
        :return: orders; without a gold column, those in which every row is asked.
        """
        signals = self.by_name
        has_gold = any(signals[name].gold is not None for name in names)
        return max(self.orders, self.gold_orders) if has_gold else self.orders

    def questionnaires(self, *, together: bool) -> tuple[Questionnaire, ...]:
        """Return what is asked about a row: for each order of the labels, all signals.

        :param together: whether one request holds all signals; else each has its own.
        :return: those of a request's questions in the order of their numbers, one behind the other.
        """
        questions = [
            Question(name, tuple(signal.labels.items()), signal.instructions, self.abstain)
            for name, signal in self.by_name.items()
        ]
        groups = [questions] if together else [[question] for question in questions]
        found = []
        for group in groups:
            orders = self.all_orders(question.name for question in group)
            for number in range(orders):
                ordered = tuple(question.ordered(number, of=orders) for question in group)
                found.append(Questionnaire(ordered, gold_only=number >= self.orders))
        return tuple(found)
