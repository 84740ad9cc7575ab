"""Training a model: in this process, or in one process for each device."""

from __future__ import annotations

from modelmill.models.trainable import TrainableModel
from modelmill.training.loop import TrainingJob, TrainingLoop
from modelmill.training.losses import Loss
from modelmill.training.multi_device import process_count, train_in_processes
from modelmill.training.options import TrainingOptions
from modelmill.training.rows import EncodedRows, Measure, quality
from modelmill.training.state import TrainingHistory
from modelmill.workspace import Workspace


def train(
    model: TrainableModel,
    rows: EncodedRows,
    *,
    validation: EncodedRows | None,
    loss: Loss,
    options: TrainingOptions,
    workspace: Workspace,
    measure: Measure = quality,
) -> TrainingHistory:
    """Train a model in place, resuming from the newest intact checkpoint of an attempt that died.

    :param model: the model; afterwards it has the weights of the best epoch, on the CPU, for evaluation.
    :param rows: train rows.
    :param validation: validation rows; None: the last epoch is kept.
    :param loss: what is minimised.
    :param options: how to train.
    :param workspace: checkpoints go below its work directory.
    :param measure: what the validation rows are measured by; the first of its metrics chooses the epoch.
    :return: the history of the training.
    :raises ModelError: if the loss is no longer finite, or a single row does not fit into memory.
    :raises TransientError: if one of several processes dies.
    """
    job = TrainingJob(model, rows, validation, loss, options, measure)
    count = process_count(job, log=workspace.log)
    if count > 1:
        # What the processes learn is in their last checkpoint: the loop finds it and has nothing left to do.
        train_in_processes(count, job, workspace)
    return TrainingLoop(job, workspace).run()
