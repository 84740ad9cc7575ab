"""The tasks by the kind of label."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from modelmill.datasets.options import LabelKind
from modelmill.tasks.base import Task
from modelmill.tasks.multi_label import MultiLabel
from modelmill.tasks.regression import Regression
from modelmill.tasks.single_label import SingleLabel

TASKS: Mapping[LabelKind, Task] = MappingProxyType(
    {task.kind: task for task in (SingleLabel(), MultiLabel(), Regression())}
)


def task_of(kind: LabelKind) -> Task:
    """Return the task of a kind of label.

    :param kind: what a dataset or a bundle names.
    :return: the task.
    """
    return TASKS[kind]
