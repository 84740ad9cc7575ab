"""Distillation: a student with fewer layers learns the answers of a teacher.

The loss is that of Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network" (2015,
arXiv 1503.02531): Kullback-Leibler divergence between the softened distributions, times the temperature
squared so that its gradients keep their size, plus cross-entropy with the labels. The student starts from
evenly spaced layers of the teacher, as in Sanh et al., "DistilBERT" (2019, arXiv 1910.01108).
"""

from __future__ import annotations

import copy
import hashlib
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from modelmill.artifacts import DatasetRef, ModelRef
from modelmill.data.token_cache import tokenised
from modelmill.data.tokens import Places, Tokens
from modelmill.errors import ModelError
from modelmill.pipeline.component import StepContext
from modelmill.serving.bundle import BundleInfo
from modelmill.serving.runtime import Scorer, agreement, load_scorer, score_into
from modelmill.training.classifier import Classifier, all_logits, build_encoder, layer_list, load_classifier
from modelmill.training.components import DistillConfig
from modelmill.training.examples import LabelledData, read_labelled
from modelmill.training.fine_tuning import (
    add_lexical_head,
    describe,
    encoded,
    log_course,
    save,
    validation_metrics,
)
from modelmill.training.loop import Loss, train

_CHUNK_ROWS = 8192


def run(config: DistillConfig, dataset: DatasetRef, teacher: ModelRef, context: StepContext) -> ModelRef:
    """Distil a student out of a teacher.

    :param config: how.
    :param dataset: what to learn.
    :param teacher: a ``torch`` model of the same label and classes.
    :param context: the step.
    :return: the logged model, role ``student``.
    :raises InputError: if the teacher does not fit the dataset or the configuration.
    """
    from modelmill.registry.models import fetch_bundle, log_model

    folder = fetch_bundle(teacher, context.cache)
    data = read_labelled(dataset, label=config.label)
    info = check_teacher(folder, data)
    encoder_tokens = config.max_tokens or info.encoder_tokens or info.max_tokens
    max_tokens = info.max_tokens if info.lexical else encoder_tokens
    large = load_classifier(folder)
    model = make_student(large, layers=config.layers, dropout=config.dropout)
    context.run.log_dataset(dataset, context="training", rows=len(data.train) + len(data.validation))
    context.log(describe(model, data))
    scorer = load_scorer(folder)

    def tokens(length: int) -> Tokens:
        return tokenised(dataset, folder, max_length=length, cache=context.cache, log=context.log)

    taught, learnt = tokens(info.max_tokens), tokens(max_tokens)
    soft = teacher_logits(scorer, taught.take(data.train.places), digest=teacher.digest, context=context)
    validation = encoded(learnt, data.validation) if len(data.validation) else None
    torch.manual_seed(config.seed)
    trained = train(
        model,
        encoded(learnt, data.train).cut(encoder_tokens),
        validation=validation.cut(encoder_tokens) if validation else None,
        loss=distillation_loss(soft, temperature=config.temperature, soft_weight=config.soft_weight),
        config=config,
        context=context,
    )
    if large.lexical is not None:
        add_lexical_head(model, large.lexical, validation, encoder_tokens=encoder_tokens, context=context)
    bundle = save(model, data, dataset, context, tokenizer=folder / "tokenizer.json", max_tokens=max_tokens)
    log_course(trained, context)
    metrics: dict[str, float] = {}
    if validation is not None:
        metrics = validation_metrics(validation, all_logits(model, validation.tokens))
        answers = load_scorer(bundle).score(validation.tokens)
        wanted = scorer.score(taught.take(data.validation.places))
        metrics["teacher_agreement"] = agreement(answers, wanted)
        context.run.log_metrics({"teacher_agreement": metrics["teacher_agreement"]}, step=trained.steps)
        context.log(f"{metrics['teacher_agreement']:.2%} of the validation rows get the teacher's answer")
    return log_model(
        bundle, role="student", dataset=dataset, context=context, parent=teacher, metrics=metrics
    )


def check_teacher(folder: Path, data: LabelledData) -> BundleInfo:
    """Check that a teacher answers the question that the dataset asks.

    :param folder: the teacher's bundle.
    :param data: the dataset's rows.
    :return: what the bundle says of itself.
    :raises ModelError: if its label or its classes differ.
    """
    info = BundleInfo.load(folder)
    if info.label != data.label:
        raise ModelError(
            f"the teacher must answer the label that the student learns, {data.label!r}",
            got=info.label,
            remedy="choose that label in the configuration, or fine-tune a teacher for it",
        )
    if info.classes != data.classes:
        lacks = ", ".join(sorted(set(data.classes) - set(info.classes))) or "none"
        extra = ", ".join(sorted(set(info.classes) - set(data.classes))) or "none"
        raise ModelError(
            "the teacher must have the classes of the dataset's train split",
            got=f"missing in the teacher: {lacks}; only in the teacher: {extra}",
            remedy="fine-tune the teacher on this dataset",
        )
    return info


def make_student(teacher: Classifier, *, layers: int, dropout: float) -> Classifier:
    """Return a student that starts from evenly spaced layers of its teacher.

    :param teacher: the teacher; it is not changed.
    :param layers: the student's layers, the first and the last of the teacher among them if there are two.
    :param dropout: dropout in training.
    :return: the student, with the teacher's embeddings and head.
    :raises ModelError: if the teacher has fewer layers.
    """
    name, stack = layer_list(teacher.encoder)
    if layers > len(stack):
        raise ModelError(
            f"a student cannot have more layers than its teacher, {len(stack)}",
            got=layers,
            remedy=f"set layers to at most {len(stack)}",
        )
    config = copy.deepcopy(teacher.config)
    config.num_hidden_layers = layers
    for field in ("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout"):
        if hasattr(config, field):
            setattr(config, field, dropout)
    if isinstance(getattr(config, "layer_types", None), list):
        config.layer_types = [config.layer_types[source] for source in spread(layers, len(stack))]
    student = Classifier(build_encoder(config), classes=teacher.head.out_features, dropout=dropout)
    weights = teacher.state_dict()
    prefix = f"encoder.{name}."
    # The lexical head is added when the student is trained.
    kept = ("encoder.", "head.")
    taken = {
        key: value for key, value in weights.items() if key.startswith(kept) and not key.startswith(prefix)
    }
    for target, source in enumerate(spread(layers, len(stack))):
        start = f"{prefix}{source}."
        for key, value in weights.items():
            if key.startswith(start):
                taken[f"{prefix}{target}.{key.removeprefix(start)}"] = value
    student.load_state_dict(taken)
    return student


def spread(count: int, total: int) -> list[int]:
    """Return evenly spaced positions.

    :param count: how many.
    :param total: of how many.
    :return: rising positions from 0; the last one is ``total - 1`` if there are two or more.
    """
    return [int(value) for value in np.linspace(0, total - 1, count)]


def teacher_logits(
    scorer: Scorer, tokens: Tokens, *, digest: str, context: StepContext
) -> npt.NDArray[np.float32]:
    """Return the teacher's logits, computed once for the same teacher and rows and kept in the cache.

    :param scorer: the teacher.
    :param tokens: the train rows, as the teacher's tokenizer makes them.
    :param digest: the teacher's.
    :param context: the step.
    :return: ``(rows, classes)``, mapped from a file.
    """
    content = hashlib.sha256(digest.encode())
    content.update(tokens.lengths.tobytes())
    for start in range(0, len(tokens), _CHUNK_ROWS):
        content.update(tokens.take(slice(start, start + _CHUNK_ROWS)).flat().tobytes())
    path = context.cache / "teacher_logits" / f"{content.hexdigest()}.npy"
    shape = (len(tokens), len(scorer.info.classes))
    if path.exists():
        found: npt.NDArray[np.float32] = np.load(path, mmap_mode="r", allow_pickle=False)
        if found.shape == shape:
            context.log("the teacher's answers are in the cache")
            return found
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}.draft")
    target = np.lib.format.open_memmap(draft, mode="w+", dtype=np.float32, shape=shape)
    score_into(target, scorer, tokens, progress=context.progress)
    target.flush()
    del target
    draft.replace(path)
    result: npt.NDArray[np.float32] = np.load(path, mmap_mode="r", allow_pickle=False)
    return result


def distillation_loss(soft: npt.NDArray[np.float32], *, temperature: float, soft_weight: float) -> Loss:
    """Return the loss of Hinton et al. (2015).

    :param soft: the teacher's logits for the train rows, ``(rows, classes)``.
    :param temperature: softens both distributions.
    :param soft_weight: weight of the soft labels; the rest is for the labels.
    :return: the loss.
    """

    def loss(logits: torch.Tensor, targets: torch.Tensor, rows: Places) -> torch.Tensor:
        teacher = torch.from_numpy(soft[rows]).to(logits.device)  # (batch, classes)
        divergence = functional.kl_div(
            functional.log_softmax(logits / temperature, dim=1),
            functional.log_softmax(teacher / temperature, dim=1),
            log_target=True,
            reduction="batchmean",
        )
        hard = functional.cross_entropy(logits, targets)
        return soft_weight * temperature**2 * divergence + (1 - soft_weight) * hard

    return loss
