"""Pipelines to begin with: a form with few fields becomes a whole pipeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Generic, Literal, TypeVar

from pydantic import Field

from modelmill.artifacts import MODEL_NAME_PATTERN
from modelmill.component import Config
from modelmill.documents.names import NAME_PATTERN
from modelmill.errors import ConfigError

FormT = TypeVar("FormT", bound=Config)


@dataclass(frozen=True)
class Template(Generic[FormT]):
    """A kind of pipeline."""

    name: str
    title: str
    form: type[FormT]
    """What a user has to say."""
    build: Callable[[FormT], dict[str, Any]]
    """From that to the pipeline's document."""

    @property
    def help(self) -> str:
        """First paragraph of the form's docstring."""
        return (self.form.__doc__ or "").strip().split("\n\n")[0]


class TableForm(Config):
    """A table with texts."""

    name: str = Field(pattern=NAME_PATTERN, description="Name of the pipeline.")
    table: str = Field(min_length=1, description="Path or URI of the Delta table.")
    text: str = Field(min_length=1, description="Column with the text.")
    key: str | None = Field(None, description="Column that identifies a row; empty: hash of the content.")
    split: str | None = Field(
        None, description="Column with train, validation or test; empty: split by hash."
    )
    schedule: str | None = Field(
        None, description="Cron expression (UTC), such as 0 2 * * * for every night at two; empty: by hand."
    )


class DatasetForm(TableForm):
    """Check a table's rows, remove duplicates, and split them: a dataset to train and to judge with."""

    label: str = Field(min_length=1, description="Column with the label.")


class EachSignalForm(TableForm):
    """A small model for each of several label columns: heads on one trunk, each with a gate of its own, and
    promoted if it is good enough.
    """

    labels: tuple[str, ...] = Field(min_length=1, description="Columns with the labels.")
    base_model: str = Field(
        "${base_model}",
        min_length=1,
        description="Hugging Face id, or a folder, of the pretrained model that the trunk is made of; "
        "${base_model}: the deployment's.",
    )
    max_drop: float = Field(
        0.01,
        ge=0,
        lt=1,
        description="How much accuracy a head may lose against the one in use (0.01: one point).",
    )


class ModelForm(DatasetForm):
    """A dataset, and the large model that a small one is made of."""

    model: str | None = Field(
        None,
        pattern=MODEL_NAME_PATTERN,
        description="Name of the registered model; empty: the pipeline's name.",
    )
    base_model: str = Field(
        "${base_model}",
        min_length=1,
        description="Hugging Face id, or a folder, of the large pretrained model; ${base_model}: the "
        "deployment's.",
    )


class OneClickForm(ModelForm):
    """From a table to a small model in use: fine-tune a large model, distil a small one out of it, prune and
    quantise it, and promote it if it is good enough.
    """

    epochs: float = Field(1.5, gt=0, le=1000, description="Passes over the train split for the large model.")
    layers: int = Field(2, ge=1, description="Layers of the small model: fewer are faster.")
    width: float = Field(
        0.5, gt=0, le=1, description="Share of each layer's inner units that stays: fewer are faster."
    )
    heads: float = Field(0.75, gt=0, le=1, description="Share of the attention heads that stays.")
    method: Literal["int8_dynamic", "none"] = Field(
        "int8_dynamic", description="How the small model's numbers are kept: int8 is smaller and faster."
    )
    max_drop: float = Field(
        0.01,
        ge=0,
        lt=1,
        description="Budget: how much accuracy the small model may lose against what it is compared with "
        "(0.01: one point).",
    )


class CompressionForm(ModelForm):
    """The smallest and fastest model that keeps a budget: fine-tune a large model, let a search try ways to
    compress it, and promote what it chose if a gate agrees.
    """

    max_drop: float = Field(
        0.02, ge=0, lt=1, description="Accuracy that may be lost against the large model (0.01: one point)."
    )
    faster: float = Field(8.0, ge=1, description="How many times faster than the large model it has to be.")
    max_size_mb: float = Field(12.0, gt=0, description="Largest size on disk, in MB.")


class LanguageModelForm(OneClickForm):
    """From a table and a language model to a small model in use: it labels rows within a budget,
    gold labels check it, and the small model learns from both.
    """

    label: str = Field("label", min_length=1, description="Column to write the labels into.")
    labels: dict[str, str] = Field(min_length=2, description="What each label means, by label.")
    gold: str = Field(
        min_length=1, description="Column with labels by hand, null elsewhere: a hundred rows or more."
    )
    llm_connection: str = Field(
        min_length=1, description="Airflow connection (http) to the language model's endpoint."
    )
    llm: str = Field(min_length=1, description="Name of the language model, with its date or version.")
    instructions: str = Field("", description="What the labels are about, and how to decide.")
    precision: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Share of each label's rows that the gold rows must prove to be right; empty: none.",
    )
    tokens: int = Field(1_000_000, ge=1, description="Budget for each night: tokens of input and output.")
    rows: int | None = Field(
        None,
        ge=1,
        description="Rows to ask about, gold rows not counted, chosen in rounds where the answers so far are "
        "least sure; empty: all.",
    )
    batch: bool = Field(
        False,
        description="Whether the requests go out as batches, which are answered within hours, often for half "
        "the price, while no task slot is held.",
    )


class RuleGateForm(Config):
    """Judge a rule set on past rows against the one in use, and promote it if decisions do not change too
    much.
    """

    name: str = Field(pattern=NAME_PATTERN, description="Name of the pipeline.")
    rule_set: str = Field(
        min_length=1, description="The rule set: path or URL of its YAML, such as ${rules}/desks.yaml."
    )
    model: str = Field(pattern=MODEL_NAME_PATTERN, description="Name of the registered rule set.")
    table: str = Field(min_length=1, description="Path or URI of the Delta table that it is tried on.")
    label: str | None = Field(None, description="Column with labels by hand; empty: there is none.")
    rows: int = Field(50_000, ge=1, description="Rows that are tried at most, from all over the table.")
    max_changed: float = Field(
        0.05, ge=0, le=1, description="Largest accepted share of rows with another decision (0.05: 5 %)."
    )
    allow_dead: bool = Field(False, description="Whether a rule may be true on no row.")
    approval: bool = Field(False, description="Whether a person has to approve it, too.")


def _dataset_steps(form: TableForm, labels: Sequence[str]) -> dict[str, Any]:
    dataset: dict[str, Any] = {"text": form.text, "labels": list(labels)}
    if form.key is not None:
        dataset = {"key": form.key, **dataset}
    if form.split is not None:
        dataset["split"] = {"column": form.split}
    return {
        "raw": {"component": "delta_table", "config": {"uri": form.table}},
        "dataset": {"component": "build_dataset", "inputs": {"table": "raw.table"}, "config": dataset},
    }


_PARAMS = {
    "data": "Folder or URI below which the tables lie",
    "base_model": "Hugging Face id, or a local folder, of the large pretrained model",
    "rules": "Folder or URI of the rule sets",
}


def _document(
    name: str,
    description: str,
    schedule: str | None,
    steps: dict[str, Any],
    groups: dict[str, Any] | None = None,
) -> dict[str, Any]:
    document: dict[str, Any] = {"pipeline": name, "description": description, "schedule": schedule}
    used = {name: {"description": text} for name, text in _PARAMS.items() if f"${{{name}}}" in str(steps)}
    parts = {"params": used, "groups": groups}
    return {**document, **{key: part for key, part in parts.items() if part}, "steps": steps}


def _dataset(form: DatasetForm) -> dict[str, Any]:
    return _document(form.name, f"Dataset of {form.label}", form.schedule, _dataset_steps(form, [form.label]))


def _one_click(form: OneClickForm) -> dict[str, Any]:
    steps = {**_dataset_steps(form, [form.label]), **_small_model_steps(form)}
    description = f"Small model for {form.label}: fine-tuned, distilled, pruned, quantised, gated, promoted"
    return _document(form.name, description, form.schedule, steps)


def _compression(form: CompressionForm) -> dict[str, Any]:
    dataset = {"dataset": "dataset.dataset"}
    budget = {
        "max_metric_drop": form.max_drop,
        "min_throughput_ratio": form.faster,
        "max_size_mb": form.max_size_mb,
    }
    steps = {
        **_dataset_steps(form, [form.label]),
        "teacher": {"component": "fine_tune", "inputs": dataset, "config": {"base_model": form.base_model}},
        "small": {
            "component": "compress",
            "inputs": {**dataset, "teacher": "teacher.model"},
            "config": {"budget": budget},
        },
        "report": {
            "component": "evaluate",
            "inputs": {**dataset, "models": ["teacher.model", "small.model"]},
        },
        "verdict": {
            "component": "gate",
            "inputs": {**dataset, "challenger": "small.model"},
            "config": {"name": form.model or form.name, "max_drop": form.max_drop},
        },
        "champion": {"component": "promote", "inputs": {"verdict": "verdict.verdict"}},
    }
    description = f"The smallest model for {form.label} that keeps a budget"
    return _document(form.name, description, form.schedule, steps)


def _language_model(form: LanguageModelForm) -> dict[str, Any]:
    steps = _dataset_steps(form, [form.label])
    steps["dataset"]["inputs"] = {"table": "labelled.table"}
    labelling = {
        "columns": [form.text],
        "label": form.label,
        "labels": form.labels,
        "gold": form.gold,
        "instructions": form.instructions,
        "llm_connection": form.llm_connection,
        "asking": {"model": form.llm, **({"batch": {}} if form.batch else {})},
        "budget": {"tokens": form.tokens},
        "precision": form.precision,
        "select": {"rows": form.rows} if form.rows is not None else None,
    }
    kept = {name: value for name, value in labelling.items() if value not in ("", None)}
    labelled = {"component": "label_by_llm", "inputs": {"table": "raw.table"}, "config": kept}
    order = {"raw": steps["raw"], "labelled": labelled, "dataset": steps["dataset"]}
    description = (
        f"Small model for {form.label}: labelled by a language model, fine-tuned, distilled, promoted"
    )
    steps = {**order, **_small_model_steps(form)}
    # A small model that is less often right on gold rows than what has taught it is no gain.
    answers, source = f"{form.label}_answer", f"{form.label}_source"
    steps["dataset"]["config"]["keep"] = [answers, source]
    beside = {"check": "answers", "column": answers, "source": source, "max_drop": form.max_drop}
    steps["verdict"]["config"]["checks"] = [beside]
    return _document(form.name, description, form.schedule, steps)


def _small_model_steps(form: OneClickForm) -> dict[str, Any]:
    dataset = {"dataset": "dataset.dataset"}
    return {
        "teacher": {
            "component": "fine_tune",
            "inputs": dataset,
            "config": {"base_model": form.base_model, "epochs": form.epochs},
        },
        "student": {
            "component": "distill",
            "inputs": {**dataset, "teacher": "teacher.model"},
            "config": {"layers": form.layers},
        },
        "pruned": {
            "component": "prune",
            "inputs": {**dataset, "model": "student.model", "teacher": "teacher.model"},
            "config": {
                "moves": [
                    {"method": "inner_units", "keep": form.width},
                    {"method": "heads", "keep": form.heads},
                ]
            },
        },
        "exported": {
            "component": "quantize",
            "inputs": {**dataset, "model": "pruned.model"},
            "config": {"method": form.method},
        },
        "report": {
            "component": "evaluate",
            "inputs": {
                **dataset,
                "models": ["teacher.model", "student.model", "pruned.model", "exported.model"],
            },
        },
        "verdict": {
            "component": "gate",
            "inputs": {**dataset, "challenger": "exported.model"},
            "config": {"name": form.model or form.name, "max_drop": form.max_drop},
        },
        "champion": {"component": "promote", "inputs": {"verdict": "verdict.verdict"}},
    }


def _each_signal(form: EachSignalForm) -> dict[str, Any]:
    steps = {
        **_dataset_steps(form, form.labels),
        "trunk": {"component": "trunk", "config": {"base_model": form.base_model}},
        "heads": {
            "component": "train_heads",
            "inputs": {"dataset": "dataset.dataset", "trunk": "trunk.trunk"},
            "config": {"prefix": f"{form.name}_heads_"},
        },
        "head": {
            "component": "pick_signal",
            "inputs": {"signals": "heads.signals"},
            "config": {"signal": "${signal}"},
        },
        "verdict": {
            "component": "gate",
            "inputs": {"dataset": "dataset.dataset", "challenger": "head.model"},
            "config": {"name": f"{form.name}_${{signal}}", "max_drop": form.max_drop},
        },
        "champion": {
            "component": "promote",
            "inputs": {"verdict": "verdict.verdict"},
            "when": {"verdict": "accepted"},
        },
    }
    groups = {
        "each_signal": {
            "steps": ["head", "verdict", "champion"],
            "for_each": {"signal": list(form.labels)},
        }
    }
    description = f"A head on one trunk for each of {', '.join(form.labels)}"
    return _document(form.name, description, form.schedule, steps, groups)


def _rule_gate(form: RuleGateForm) -> dict[str, Any]:
    judged = form.model_dump(
        include={"rule_set", "label", "rows", "max_changed", "allow_dead"}, exclude_defaults=True
    )
    steps: dict[str, Any] = {
        "raw": {"component": "delta_table", "config": {"uri": form.table}},
        "verdict": {
            "component": "gate_rules",
            "inputs": {"table": "raw.table"},
            "config": {"name": form.model, **judged},
        },
    }
    verdict = "verdict.verdict"
    if form.approval:
        steps["approval"] = {"component": "approve", "inputs": {"verdict": verdict}}
        verdict = "approval.verdict"
    steps["champion"] = {"component": "promote", "inputs": {"verdict": verdict}}
    return _document(form.name, f"Gate for the rule set {form.model}", None, steps)


TEMPLATES: Mapping[str, Template[Any]] = MappingProxyType(
    {
        template.name: template
        for template in (
            Template("one_click", "One click: table to champion", OneClickForm, _one_click),
            Template(
                "language_model",
                "One click: table and language model to champion",
                LanguageModelForm,
                _language_model,
            ),
            Template("each_signal", "For each signal: a head on one trunk", EachSignalForm, _each_signal),
            Template("compression", "Compression within a budget", CompressionForm, _compression),
            Template("dataset", "Dataset of a table", DatasetForm, _dataset),
            Template("rule_gate", "Gate for a rule set", RuleGateForm, _rule_gate),
        )
    }
)
"""Templates by name, in the order in which they are offered."""


def template_named(name: str) -> Template[Any]:
    """Return the template with a name; ConfigError if there is none."""
    if name not in TEMPLATES:
        raise ConfigError("a template must be known", got=name, choices=TEMPLATES)
    return TEMPLATES[name]
