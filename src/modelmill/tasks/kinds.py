"""The tasks by the kind of label."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from modelmill.datasets.options import LabelKind
from modelmill.tasks.base import Task
from modelmill.tasks.multi_label import MultiLabel
from modelmill.tasks.regression import Regression
from modelmill.tasks.single_label import SingleLabel

if TYPE_CHECKING:
    import pyarrow as pa

TASKS: Mapping[LabelKind, Task] = MappingProxyType(
    {task.kind: task for task in (SingleLabel(), MultiLabel(), Regression())}
)


def task_of(kind: LabelKind) -> Task:
    """Return the task of a kind of label.

    :param kind: what a dataset or a bundle names.
    :return: the task.
    """
    return TASKS[kind]


def column_task(kind: pa.DataType) -> Task:
    """Return the task of a label column, by its type in a dataset."""
    import pyarrow as pa

    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return task_of("classes")
    return task_of("number" if pa.types.is_floating(kind) else "class")
