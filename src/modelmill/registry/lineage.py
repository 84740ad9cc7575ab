"""What a model was made from: dataset version → teacher → student → exported file → registered version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelmill.artifacts import DatasetRef
from modelmill.errors import ModelError
from modelmill.options import Record
from modelmill.registry.bundles import (
    TAG_DATASET,
    TAG_DATASET_REFERENCE,
    TAG_DIGEST,
    TAG_PARENT,
    TAG_RECIPE,
    TAG_ROLE,
    TAG_TRUNK,
)
from modelmill.registry.versions import (
    FORBIDDEN,
    MISSING,
    champion_of,
    missing_lineage,
    patiently,
    version_numbered,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mlflow import MlflowClient


class Lineage(Record):
    """A model or a dataset, and what it was made from."""

    uri: str
    """``models:/NAME/VERSION``, ``models:/m-…``, or a dataset's ``URI@VERSION``."""
    role: str
    """``dataset``, ``teacher``, ``student``, ``exported``, …; empty if unknown."""
    digest: str = ""
    """Of a model's files."""
    recipe: str = ""
    """Step key of the step that made a model: a hash of its configuration and of all that it read."""
    run_id: str = ""
    """MLflow run that made it; empty for a dataset."""
    missing: tuple[str, ...] = ()
    """What is unknown about its origin."""
    made_from: tuple[Lineage, ...] = ()
    """Its parent model and its dataset."""

    def lines(self, *, indent: str = "") -> list[str]:
        """Return the tree as text: below each line what it was made from."""
        facts = [self.digest[:12] and f"digest {self.digest[:12]}", self.run_id and f"run {self.run_id}"]
        facts += [f"missing: {', '.join(self.missing)}" if self.missing else ""]
        shown = ", ".join(fact for fact in facts if fact)
        first = f"{indent}{self.role or 'model'} {self.uri}" + (f" ({shown})" if shown else "")
        return [first, *(line for part in self.made_from for line in part.lines(indent=f"{indent}  "))]


def lineage(model: str, client: MlflowClient) -> Lineage:
    """Return what a model was made from, down to the datasets.

    :param model: ``NAME`` (its champion), ``NAME/VERSION``, ``models:/NAME/VERSION`` or ``models:/m-…``.
    :param client: MLflow's client.
    :return: the tree.
    :raises ModelError: if there is no such model.
    """
    name, _, version = model.removeprefix("models:/").partition("/")
    if not version and name.startswith("m-"):
        found = _logged(f"models:/{name}", client, seen=frozenset())
        if found is None:
            raise _unknown(model)
        return found
    if version and not version.isdecimal():
        raise _unknown(model)
    known = version_numbered(client, name, int(version)) if version else champion_of(client, name)
    if known is None:
        raise _unknown(model)
    uri = f"models:/{name}/{known.version}"
    return _node(uri, known.tags, known.run_id or "", client, seen=frozenset({uri}))


def all_missing(model: str, client: MlflowClient) -> list[str]:
    """Return what is unknown about the origin of a model, and of every model that it was made from.

    :param model: as :func:`lineage` takes it.
    :param client: MLflow's client.
    :return: one phrase for each thing, with the model; empty if the lineage is whole.
    """
    try:
        return _missing(lineage(model, client))
    except ModelError:
        return [f"{model}: MLflow does not know it"]


def _missing(node: Lineage) -> list[str]:
    below = [phrase for part in node.made_from for phrase in _missing(part)]
    return [*(f"{node.uri}: {phrase}" for phrase in node.missing), *below]


def _unknown(model: str) -> ModelError:
    return ModelError(
        "a model must be one that MLflow knows",
        got=model,
        remedy="name it NAME (its champion), NAME/VERSION or models:/m-ID",
    )


def _logged(uri: str, client: MlflowClient, *, seen: frozenset[str]) -> Lineage | None:
    found = _tags(uri, client)
    return None if found is None else _node(uri, *found, client, seen=seen | {uri})


def _tags(uri: str, client: MlflowClient) -> tuple[Mapping[str, str], str] | None:
    """Return the tags of a model and the run that made it; None if MLflow has no such model."""
    from mlflow.exceptions import MlflowException

    name, _, version = uri.removeprefix("models:/").partition("/")
    if version:
        known = version_numbered(client, name, int(version))
        return None if known is None else (known.tags, known.run_id or "")
    try:
        found = patiently(lambda: client.get_logged_model(name))
    except MlflowException as error:
        if error.error_code in (*MISSING, FORBIDDEN):
            return None
        raise
    return found.tags, found.source_run_id or ""


TAG_TAUGHT = "modelmill.taught."
"""Begin of the tags of an encoder that learnt the labels of several datasets: a reference each."""


def taught_tags(datasets: Iterable[DatasetRef]) -> dict[str, str]:
    """Return the tags that name the datasets whose labels an encoder has learnt."""
    return {f"{TAG_TAUGHT}{number}": dataset.model_dump_json() for number, dataset in enumerate(datasets)}


def learnt_datasets(tags: Mapping[str, str]) -> list[DatasetRef]:
    """Return the datasets that a model has learnt from, as far as its tags name them."""
    named = [text for tag, text in tags.items() if tag == TAG_DATASET_REFERENCE or tag.startswith(TAG_TAUGHT)]
    return [DatasetRef.model_validate_json(text) for text in named if text]


@dataclass(frozen=True)
class Taught:
    """A model of a chain, and the dataset whose train and validation rows it has learnt from."""

    model: str
    dataset: DatasetRef | None
    """None if nobody knows it: MLflow no longer has the model, or an early modelmill made it."""


def taught_by(model: str, client: MlflowClient) -> list[Taught]:
    """Return what a model and all models that it was made from (parents and trunks) have learnt from.

    :param model: its URI.
    :param client: MLflow's client.
    :return: one for each model that has learnt from a dataset, or may have.
    """
    found, seen, waiting = [], {model}, [model]
    while waiting:
        uri = waiting.pop()
        known = _tags(uri, client)
        tags: Mapping[str, str] = known[0] if known else {}
        datasets = learnt_datasets(tags)
        found += [Taught(uri, dataset) for dataset in datasets]
        if not datasets and (TAG_DATASET in tags or known is None or _has_labels(*known, client)):
            found.append(Taught(uri, None))
        more = {tags[name] for name in (TAG_PARENT, TAG_TRUNK) if tags.get(name)} - seen
        seen |= more
        waiting += sorted(more)
    return found


def _has_labels(tags: Mapping[str, str], run_id: str, client: MlflowClient) -> bool:
    """Return whether an encoder has learnt labels: an early one of teach_trunk does not name its datasets."""
    from mlflow.exceptions import MlflowException

    if tags.get(TAG_ROLE) != "base" or not run_id:
        return False
    try:
        made_by = patiently(lambda: client.get_run(run_id)).data.tags.get("modelmill.component")
    except MlflowException as error:
        if error.error_code in (*MISSING, FORBIDDEN):
            return True  # nobody can tell any more
        raise
    return bool(made_by == "teach_trunk")


def _node(
    uri: str, tags: Mapping[str, str], run_id: str, client: MlflowClient, *, seen: frozenset[str]
) -> Lineage:
    made_from = []
    parent = tags.get(TAG_PARENT)
    if parent and parent not in seen:
        gone = Lineage(uri=parent, role="", missing=("MLflow no longer has it",))
        made_from.append(_logged(parent, client, seen=seen) or gone)
    datasets = [str(dataset) for dataset in learnt_datasets(tags)] or [tags.get(TAG_DATASET, "")]
    made_from += [Lineage(uri=dataset, role="dataset") for dataset in dict.fromkeys(datasets) if dataset]
    return Lineage(
        uri=uri,
        role=tags.get(TAG_ROLE, ""),
        digest=tags.get(TAG_DIGEST, ""),
        recipe=tags.get(TAG_RECIPE, ""),
        run_id=run_id,
        # An encoder that read texts alone, of whatever tables, has no dataset.
        missing=tuple(
            one for one in missing_lineage(tags) if tags.get(TAG_ROLE) != "base" or TAG_DATASET not in one
        ),
        made_from=tuple(made_from),
    )
