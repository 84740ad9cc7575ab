"""The models that a gate compares: the challenger, its chain, the champion, the last approved champion."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from modelmill.artifacts import DatasetRef, ModelRef
from modelmill.errors import GateError, ModelError, TransientError
from modelmill.evaluation.logits import cached_logits
from modelmill.evaluation.rows import judged_label, judged_rows
from modelmill.models.bundle import BundleInfo
from modelmill.registry.approval import Approved
from modelmill.registry.bundles import fetch_bundle
from modelmill.registry.contest import Contest, Contestant
from modelmill.registry.gate_options import GateOptions
from modelmill.registry.learnt_rows import LeftOut, check_left, learnt_rows
from modelmill.registry.metric_comparisons import Statistics
from modelmill.registry.versions import model_at, reference, version_numbered
from modelmill.settings import Settings
from modelmill.workspace import Workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient

_MADE_FROM = "made from "
_PARENT = f"{_MADE_FROM}1"


def compared_models(
    challenger: ModelRef,
    current: ModelRef | None,
    approved: Approved | None,
    name: str,
    client: MlflowClient,
) -> dict[str, ModelRef]:
    """Return the models that are compared; those that the challenger was made from as ``made from 1``, ….

    :param challenger: the challenger.
    :param current: the champion.
    :param approved: the last champion that a person approved.
    :param name: the registered model.
    :param client: MLflow's client.
    :return: the models by name.
    """
    models = {"challenger": challenger}
    if current is not None:
        models["champion"] = current
        if approved is not None:
            models["approved"] = _approved(name, approved.version, client)
    above, steps = challenger, 0
    while above.parent:
        above, steps = model_at(client, above.parent), steps + 1
        models[f"{_MADE_FROM}{steps}"] = above
    return models


def _approved(name: str, version: int, client: MlflowClient) -> ModelRef:
    found = version_numbered(client, name, version)
    if found is None:
        raise GateError(
            f"the version of {name} that a person last approved, or the first champion, must exist",
            got=f"version {version}, which MLflow no longer has",
            remedy="go back to a version that is there with modelmill registry rollback: that approves it",
        )
    return reference(found)


def make_contest(
    models: dict[str, ModelRef],
    dataset: DatasetRef,
    options: GateOptions,
    *,
    client: MlflowClient,
    settings: Settings,
    workspace: Workspace,
) -> tuple[Contest, tuple[LeftOut, ...]]:
    """Collect the answers of all models to the test rows that none of them has learnt from.

    :param models: see :func:`compared_models`.
    :param dataset: has the test rows.
    :param options: the gate's.
    :param client: MLflow's client.
    :param settings: of the ledger.
    :param workspace: keeps bundles and logits.
    :return: the models with their answers; and which rows are left out because of which datasets.
    :raises GateError: if too few rows are left, or it is not known what a model learnt from.
    :raises ModelError: if a model's files are missing or have changed.
    """
    folders = {name: _fetch(name, model, workspace.cache) for name, model in models.items()}
    infos = {name: BundleInfo.load(folder) for name, folder in folders.items()}
    own = infos["challenger"]
    # A trunk and an encoder have no answers, and what answers another label is no measure of this one.
    used = [
        name
        for name, info in infos.items()
        if not name.startswith(_MADE_FROM)
        or (
            models[name].format not in ("trunk", "encoder")
            and (info.label, info.target) == (own.label, own.target)
        )
    ]
    everything = judged_rows(dataset, judged_label(dataset, [own]), [infos[name] for name in used])
    sides = {name: models[name] for name in models if name in ("challenger", "champion")}
    if "approved" in models and models["approved"].uri != models["champion"].uri:
        sides["champion that was last approved"] = models["approved"]
    learnt, left_out = learnt_rows(sides, dataset, everything.texts, client, kind=everything.rows.content)
    for one in left_out:
        workspace.log(one.sentence)
    rows = everything.keep(~learnt)
    check_left(len(rows), len(everything), left_out, least=options.min_rows, lost=options.lost_datasets)

    def contestant(name: str, shown: str) -> Contestant:
        model, folder = models[name], folders[name]
        logits = cached_logits(model, folder, dataset, "test", workspace)[rows.rows.labelled]
        return Contestant(shown, model, folder, infos[name], logits, rows)

    challenger = contestant("challenger", "challenger")
    before = [name for name in used if name.startswith(_MADE_FROM)][::-1]
    # The oldest comes first; with a single step the parent is where the chain starts.
    chain = [
        contestant(name, models[name].role if place else "start of the chain")
        for place, name in enumerate(before)
    ]
    if len(chain) == 1:
        chain = [replace(chain[0], name="parent")]
    parent = contestant(_PARENT, "parent") if _PARENT in used else None
    contest = Contest(
        name=options.name,
        dataset=dataset,
        rows=rows,
        left_out=int(learnt.sum()),
        challenger=challenger,
        champion=contestant("champion", "champion") if "champion" in models else None,
        parent=parent,
        chain=(*chain, challenger),
        approved=contestant("approved", f"version {models['approved'].uri.rsplit('/', 1)[1]}")
        if "approved" in models
        else None,
        how=Statistics(confidence=options.confidence, resamples=options.resamples),
        settings=settings,
        log=workspace.log,
    )
    return contest, left_out


def _fetch(name: str, model: ModelRef, cache: Path) -> Path:
    try:
        return fetch_bundle(model, cache)
    except (ModelError, TransientError) as error:
        if name not in ("champion", "approved"):
            raise
        registered = model.uri.split("/")[1]
        which = "champion" if name == "champion" else "last approved champion"
        raise type(error)(
            f"the {which} of {registered} must be there to compare with ({error.rule})",
            got=model.uri,
            remedy=f"restore its files, or go back with modelmill registry rollback {registered}",
        ) from error
