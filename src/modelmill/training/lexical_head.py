"""Adding a fitted lexical head to a trained encoder."""

from __future__ import annotations

from modelmill.models.classifier import Classifier, all_logits
from modelmill.models.lexical import UNFITTED_SCALES, LexicalHead, fit_scales
from modelmill.training.rows import EncodedRows
from modelmill.workspace import Workspace


def add_lexical_head(
    model: Classifier,
    head: LexicalHead,
    validation: EncodedRows | None,
    *,
    encoder_tokens: int,
    workspace: Workspace,
) -> None:
    """Attach a fitted lexical head, and fit the two weights of the sum on the validation rows.

    :param model: a trained model without one, in evaluation mode.
    :param head: the head.
    :param validation: validation rows, as long as the head reads them; None if there are none.
    :param encoder_tokens: tokens that the encoder reads.
    :param workspace: gets the accuracies and the weights.
    """
    scales = UNFITTED_SCALES
    if validation:
        read = validation.cut(encoder_tokens).tokens
        encoder = all_logits(model, read)  # (rows, classes)
        lexical = all_logits(head, validation.tokens)  # (rows, classes)
        scales = fit_scales(encoder, lexical, validation.targets)
        alone = float((encoder.argmax(axis=1) == validation.targets).mean())
        words = float((lexical.argmax(axis=1) == validation.targets).mean())
        both = float(((scales[0] * encoder + scales[1] * lexical).argmax(1) == validation.targets).mean())
        workspace.log(f"validation accuracy: encoder {alone:.2%}, words {words:.2%}, both {both:.2%}")
    model.attach(head, scales, encoder_tokens=encoder_tokens)
    workspace.tracker.log_metrics({"encoder_scale": scales[0], "lexical_scale": scales[1]})
