"""The library on lists and data frames, for a notebook.

>>> teacher = fine_tune(texts, labels, base_model="sentence-transformers/all-MiniLM-L6-v2", validation=held)
>>> student = distill(teacher, texts, labels, validation=held, layers=2)
>>> student.predict(["the goal of the match"])
['sport']
>>> small = compress(teacher, texts, labels, validation=held, budget={"max_size_mb": 12})
>>> small.save("small")

The steps of these names call the same algorithms: the same rows give the same weights.
"""

from __future__ import annotations

import contextlib
import shutil
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from modelmill.compression.options import CompressionOptions, PruningOptions, QuantizationOptions
from modelmill.compression.pruning.prune import prune as _prune
from modelmill.compression.quantization.quantize import quantize as _quantize
from modelmill.compression.search.compress import compress as _compress
from modelmill.errors import ModelError
from modelmill.evaluation.options import EvaluationOptions
from modelmill.evaluation.results import EvaluationReport
from modelmill.evaluation.side_by_side import evaluate as _evaluate
from modelmill.models.bundle import BundleInfo, trunk_folder
from modelmill.models.scorers import load_scorer
from modelmill.system.scratch import scratch_folder
from modelmill.tasks.calibration import FloatArray
from modelmill.tasks.examples import LabelledData, labelled_lists
from modelmill.tokens.texts import TextList
from modelmill.training.distillation import distill as _distill
from modelmill.training.fine_tuning import fine_tune as _fine_tune
from modelmill.training.options import FineTuningOptions, StudentOptions
from modelmill.training.teacher import Teacher
from modelmill.workspace import Workspace

Labelled = tuple[Sequence[str], Sequence[Any]]
"""Texts, and the label of each: a class, a list of classes, or a float; None if it has none."""


class Model:
    """A model that answers texts.

    :param folder: its bundle.
    :param metrics: metrics on the validation rows of its training, by name.
    :raises ModelError: if the folder is not a bundle, or cannot be loaded.
    """

    def __init__(self, folder: Path, *, metrics: Mapping[str, float] = MappingProxyType({})) -> None:
        self.folder = folder
        self.metrics = dict(metrics)
        self.info = BundleInfo.load(folder)
        self._scorer = load_scorer(folder)

    @classmethod
    def load(cls, folder: str | Path) -> Model:
        """Load a model from the folder that :meth:`save` or a step has written.

        :param folder: the folder.
        :return: the model.
        :raises ModelError: if the folder is not a bundle, or cannot be loaded.
        """
        return cls(Path(folder))

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes, in the order of the columns of :meth:`predict_proba`; empty for numbers."""
        return self.info.classes

    def predict(self, texts: Sequence[str]) -> list[Any]:
        """Return an answer for each text.

        :param texts: any number of texts.
        :return: a class each, a list of classes each, or a float each, as the labels of the training were.
        """
        return self.info.answers(self._scorer.logits(texts))[0]

    def predict_proba(self, texts: Sequence[str]) -> FloatArray:
        """Return the probability of each class, calibrated if the training had validation rows.

        :param texts: any number of texts.
        :return: ``(texts, classes)``.
        :raises ModelError: if the model answers with numbers.
        """
        if not self.info.task.has_classes:
            raise ModelError(
                "a model has probabilities if its labels are classes",
                got=f"{self.info.label}: {self.info.target}",
                remedy="call predict",
            )
        return self._scorer.probabilities(texts)

    def save(self, folder: str | Path) -> Path:
        """Write the model into a new folder; beside it goes the trunk that a head reads, if it is one.

        :param folder: the folder.
        :return: the folder.
        :raises FileExistsError: if it exists.
        """
        target = Path(folder)
        shutil.copytree(self.folder, target)
        if self.info.trunk is not None and not (target.parent / self.info.trunk).exists():
            shutil.copytree(trunk_folder(self.folder, self.info), target.parent / self.info.trunk)
        return target


def fine_tune(
    texts: Sequence[str],
    labels: Sequence[Any],
    *,
    base_model: str,
    validation: Labelled = ((), ()),
    label: str = "label",
    log: Callable[[str], None] = print,
    **options: Any,
) -> Model:
    """Fine-tune a pretrained encoder.

    :param texts: the texts to learn from.
    :param labels: the label of each: a class, a list of classes, or a float; None if it has none.
    :param base_model: folder or Hugging Face id of the encoder.
    :param validation: texts and labels that choose the best epoch and calibrate the probabilities.
    :param label: name of the label.
    :param log: gets each line of the log.
    :param **options: see :class:`modelmill.training.options.FineTuningOptions`.
    :return: the model.
    :raises InputError: if the labels, the base model or the options cannot be used.
    """
    chosen = FineTuningOptions(base_model=base_model, **options)
    data, all_texts = _labelled(texts, labels, validation, label)
    return _trained(lambda workspace: _fine_tune(data, all_texts, chosen, workspace), log)


def distill(
    teacher: Model,
    texts: Sequence[str],
    labels: Sequence[Any],
    *,
    validation: Labelled = ((), ()),
    unlabelled: Sequence[str] = (),
    log: Callable[[str], None] = print,
    **options: Any,
) -> Model:
    """Distil a student with fewer layers out of a teacher.

    :param teacher: a model that :func:`fine_tune` returned.
    :param texts: the texts to learn from.
    :param labels: the label of each, as the teacher learned them; None if it has none.
    :param validation: texts and labels that choose the best epoch.
    :param unlabelled: more texts, for which the teacher's answer is learned.
    :param log: gets each line of the log.
    :param **options: see :class:`modelmill.training.options.StudentOptions`.
    :return: the student.
    :raises InputError: if the labels, the teacher or the options cannot be used.
    """
    chosen = StudentOptions(**options)
    data, all_texts = _labelled(texts, labels, validation, teacher.info.label)
    master = Teacher.load(teacher.folder)
    transfer = TextList(unlabelled) if len(unlabelled) else None
    return _trained(
        lambda workspace: _distill(data, all_texts, master, chosen, workspace, transfer=transfer), log
    )


def prune(
    model: Model,
    texts: Sequence[str],
    labels: Sequence[Any],
    *,
    teacher: Model | None = None,
    validation: Labelled = ((), ()),
    log: Callable[[str], None] = print,
    **options: Any,
) -> Model:
    """Take units and unused tokens out of a model, and train what stays.

    :param model: a model that :func:`fine_tune` or :func:`distill` returned.
    :param texts: the texts to learn from.
    :param labels: the label of each, as the model learned them; None if it has none.
    :param teacher: a model whose answers are learned; None: the model as it was.
    :param validation: texts and labels that choose the best epoch.
    :param log: gets each line of the log.
    :param **options: see :class:`modelmill.compression.options.PruningOptions`.
    :return: the smaller model.
    :raises InputError: if the labels, the models or the options cannot be used.
    """
    chosen = PruningOptions(**options)
    data, all_texts = _labelled(texts, labels, validation, model.info.label)
    master = Teacher.load((teacher or model).folder)
    return _trained(
        lambda workspace: _prune(
            model.folder, data, all_texts, teacher=master, options=chosen, workspace=workspace
        ),
        log,
    )


def quantize(
    model: Model, texts: Sequence[str], *, log: Callable[[str], None] = print, **options: Any
) -> Model:
    """Make the file that serves: export a model, and quantise it.

    :param model: a model that :func:`fine_tune`, :func:`distill` or :func:`prune` returned.
    :param texts: texts to calibrate with, and to compare answers on; at least one.
    :param log: gets each line of the log.
    :param **options: see :class:`modelmill.compression.options.QuantizationOptions`.
    :return: the quantised model.
    :raises ModelError: if it cannot be exported, or too many answers change.
    """
    chosen = QuantizationOptions(**options)
    tokens = TextList(texts).tokens(model.folder, max_tokens=model.info.max_tokens)
    return _trained(
        lambda workspace: _quantize(model.folder, tokens, options=chosen, workspace=workspace), log
    )


def compress(
    teacher: Model,
    texts: Sequence[str],
    labels: Sequence[Any],
    *,
    validation: Labelled,
    log: Callable[[str], None] = print,
    **options: Any,
) -> Model:
    """Search for a smaller or faster model that keeps a budget.

    :param teacher: a model of classes that :func:`fine_tune` returned.
    :param texts: the texts to learn from.
    :param labels: the class of each; None if it has none.
    :param validation: texts and classes that models are ranked and judged on; the more, the smaller the drop
        that can be told from chance.
    :param log: gets each line of the log.
    :param **options: see :class:`modelmill.compression.options.CompressionOptions`, such as
        ``budget={"max_metric_drop": 0.01, "max_size_mb": 12}``.
    :return: the model that keeps the budget.
    :raises ConfigError: if none does.
    :raises InputError: if the labels, the teacher or the options cannot be used.
    """
    chosen = CompressionOptions(**options)
    data, all_texts = _labelled(texts, labels, validation, teacher.info.label)
    master = Teacher.load(teacher.folder)
    return _trained(lambda workspace: _compress(data, all_texts, master, chosen, workspace), log)


def _labelled(
    texts: Sequence[str], labels: Sequence[Any], validation: Labelled, label: str
) -> tuple[LabelledData, TextList]:
    return labelled_lists(labels, validation[1], label=label), TextList([*texts, *validation[0]])


class _Result(Protocol):
    """What the algorithms return."""

    @property
    def folder(self) -> Path: ...

    @property
    def metrics(self) -> Mapping[str, float]: ...


def _trained(train: Callable[[Workspace], _Result], log: Callable[[str], None]) -> Model:
    """Train in a temporary workspace; the model's bundle lives as long as the model."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(scratch_folder("modelmill-model-"))
        with Workspace.temporary(log=log) as workspace:
            trained = train(workspace)
            shutil.copytree(trained.folder, folder / "bundle")
        model = Model(folder / "bundle", metrics=trained.metrics)
        weakref.finalize(model, stack.pop_all().close)
    return model


def evaluate(
    models: Mapping[str, Model],
    texts: Sequence[str],
    labels: Sequence[Any],
    *,
    train: Labelled | None = None,
    **options: Any,
) -> EvaluationReport:
    """Measure models side by side: quality with confidence intervals, size, documents per second.

    :param models: models by name; ratios are relative to the first.
    :param texts: texts that no model has learned from.
    :param labels: the label of each text.
    :param train: texts and labels to fit the baselines on; None for no baselines.
    :param **options: see :class:`modelmill.evaluation.options.EvaluationOptions`.
    :return: the report; ``print`` shows it as a table.
    :raises InputError: if there are no models or texts, or the models answer with different kinds of labels.
    """
    folders = {name: model.folder for name, model in models.items()}
    return _evaluate(folders, texts, labels, train=train, options=EvaluationOptions(**options))
