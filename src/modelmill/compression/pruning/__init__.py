"""Pruning: whole units and unused tokens are taken out of a model, so that what stays is a smaller model.

A method takes units of one kind out: a function with the signature of :class:`PruningMethod`. modelmill's own
methods are listed in :data:`modelmill.compression.options.PRUNING_METHODS`. Another distribution adds one
with an entry point, whose name is the name that configurations use::

    [project.entry-points."modelmill.pruning"]
    every_second_layer = "my_package.layers:drop_layers"

Then the component ``prune`` accepts it as the ``method`` of a move. Which units go should follow from rows;
see :func:`modelmill.compression.pruning.importance.unit_importance`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from modelmill.compression.options import Importance
    from modelmill.models.classifier import Classifier
    from modelmill.training.rows import EncodedRows


class PruningMethod(Protocol):
    """Takes units of one kind out of a classifier."""

    def __call__(
        self, model: Classifier, *, keep: float, rows: EncodedRows, importance: Importance
    ) -> Classifier:
        """Return a smaller classifier, in evaluation mode.

        Its ``config`` must describe the smaller encoder, so that
        :func:`modelmill.models.classifier.build_encoder` builds it again from ``config.json``.

        :param model: a classifier, perhaps pruned already; it must not be changed.
        :param keep: share of the units that stays, above 0 and at most 1.
        :param rows: labelled train rows.
        :param importance: how the importance of a unit is estimated.
        :return: the smaller classifier.
        :raises ModelError: if the architecture has no such units.
        """
