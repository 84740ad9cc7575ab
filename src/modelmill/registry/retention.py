"""Which runs, models and registered versions of MLflow a deployment still needs, and why.

What is needed is found as a collector of garbage finds it. It begins with what is live by the policy: runs
that are young, were reused lately, or have not ended; versions with an alias, and those that a promotion or a
rollback may ask for; rows of the ledger; what a document names. From there it follows what each of them
names: a version its model, a model the run that made it, its parent and its trunk, a rule set the models that
it asks, a run its models and all that its results name, lists of signals included. What nothing leads to can
go (:mod:`modelmill.registry.removal`).
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from modelmill.artifacts import DatasetRef, Reference, SignalsRef, TableRef
from modelmill.errors import ModelError, TransientError
from modelmill.registry.approval import last_approved
from modelmill.registry.bundles import TAG_DIGEST, fetch_bundle, files_below, model_reference
from modelmill.registry.finished_runs import TAG_STEP_KEY, AskedRun, memory_file, read_tags
from modelmill.registry.history import previous_champion
from modelmill.registry.ledger import LedgerRow, entries
from modelmill.registry.lineage import learnt_datasets
from modelmill.registry.signal_models import read_signals
from modelmill.registry.versions import all_pages
from modelmill.settings import Settings

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run
    from mlflow.entities.model_registry import ModelVersion

DAY = 86_400.0
_NAMED = re.compile(r"models:/([A-Za-z][\w.-]*)/(\d+)\b|\b(m-[0-9a-f]{32}|[0-9a-f]{32})\b")
"""A registered version, a logged model or a run, in any text."""
_FILLED_IN = re.compile(r"\$\{[^}]{0,200}\}")
_TEMPLATE = re.compile(r"models:/((?:[\w.-]|\$\{[^}]{0,200}\})+/(?:\d|\$\{[^}]{0,200}\})+)")
"""A registered version whose name or number is partly filled in when a document is used."""
_PROSE = {"summary", "reasons", "approved_by"}
"""What a verdict says to people: that names the champion before, and so would keep every champion."""


TAG_INPUTS = "modelmill.inputs"
"""What a run that has not ended reads: names in the first line, a table and its version in each other one."""


@dataclass(frozen=True)
class Policy:
    """How long things are kept that nothing live needs."""

    run_days: float
    """Of runs, with their models and reports: since they ended, or were last reused."""
    version_days: float | None = None
    """Of registered versions, and of what rows of the ledger name; None: for ever."""
    now: float = field(default_factory=lambda: time.time())
    """Seconds since 1970."""

    def run_is_young(self, moment: float) -> bool:
        """Return whether a run that ended or was reused at a time is kept for that."""
        return self.now - moment < self.run_days * DAY

    def version_is_young(self, moment: float) -> bool:
        """Return whether a version that was made, or was champion, at a time is kept for that."""
        return self.version_days is None or self.now - moment < self.version_days * DAY


@dataclass(frozen=True)
class KnownRun:
    """A run of a step, with what it names."""

    run_id: str
    experiment: str
    """Name of the experiment: the pipeline's."""
    step: str
    key: str
    """Step key."""
    last_used: float
    """When it ended, or was last reused; seconds since 1970."""
    has_ended: bool
    is_deleted: bool
    """Whether MLflow has it among the deleted ones."""
    names: frozenset[str]
    """Models, runs and versions (``NAME/VERSION``) that its results are, or refer to; until it has ended,
    also those that it reads."""
    tables: frozenset[tuple[str, int]]
    """Tables and versions among its results; until it has ended, also those that it reads."""
    signals: tuple[SignalsRef, ...] = ()
    """Lists of models among its results. They name models of earlier runs, too."""

    @classmethod
    def of(cls, run: Run, experiment: str, settings: Settings) -> KnownRun:
        """Read a run's tags."""
        tags, info = run.data.tags, run.info
        key, run_id = str(tags[TAG_STEP_KEY]), str(info.run_id)
        finished = read_tags(str(info.experiment_id), run_id, tags)
        outputs = [*finished.outputs.values()] if finished else []
        ended = (info.end_time or info.start_time or 0) / 1000
        has_ended = info.status in ("FINISHED", "FAILED", "KILLED")
        read, tables = _inputs_of("" if has_ended else str(tags.get(TAG_INPUTS, "")))
        return cls(
            run_id=run_id,
            experiment=experiment,
            step=str(tags.get("modelmill.step", "")),
            key=key,
            last_used=max(ended, last_reuse(settings, experiment, key, run_id)),
            has_ended=has_ended,
            is_deleted=info.lifecycle_stage == "deleted",
            names=frozenset((_named_by(outputs) | read) - {run_id}),
            tables=frozenset(
                {(one.uri, one.version) for one in outputs if isinstance(one, TableRef | DatasetRef)} | tables
            ),
            signals=tuple(one for one in outputs if isinstance(one, SignalsRef)),
        )


@dataclass
class Everything:
    """All that MLflow has of a deployment."""

    runs: dict[str, KnownRun] = field(default_factory=dict)
    models: dict[str, LoggedModel] = field(default_factory=dict)
    """Models of these runs, by id."""
    made: dict[str, list[str]] = field(default_factory=dict)
    """Ids of the models of each run that has some."""
    versions: dict[str, ModelVersion] = field(default_factory=dict)
    """By ``NAME/VERSION``."""
    aliases: dict[str, list[str]] = field(default_factory=dict)
    """Of each version that has some."""

    @classmethod
    def of(cls, client: MlflowClient, settings: Settings) -> Everything:
        """Read it: some requests for each experiment and registered model, a thousand things in each."""
        from mlflow.entities import ViewType

        found = cls()
        for experiment in all_pages(client.search_experiments):
            place = [experiment.experiment_id]
            for run in all_pages(client.search_runs, experiment_ids=place, run_view_type=ViewType.ALL):
                if TAG_STEP_KEY in run.data.tags:
                    known = KnownRun.of(run, experiment.name, settings)
                    found.runs[known.run_id] = known
            for model in all_pages(client.search_logged_models, experiment_ids=place):
                if model.source_run_id in found.runs:
                    found.models[model.model_id] = model
                    found.made.setdefault(model.source_run_id, []).append(model.model_id)
        for registered in all_pages(client.search_registered_models):
            for alias, version in registered.aliases.items():
                found.aliases.setdefault(f"{registered.name}/{version}", []).append(alias)
        for version in all_pages(client.search_model_versions):
            found.versions[f"{version.name}/{version.version}"] = version
        return found

    def needs(self, name: str) -> Iterator[str]:
        """Yield what a run, a model or a version needs: what it names, and what belongs to it."""
        if name in self.runs:
            yield from self.runs[name].names
            yield from self.made.get(name, ())
        elif name in self.models:
            model = self.models[name]
            yield from named_in([*model.tags.values(), str(model.source_run_id)])
        elif name in self.versions:
            version = self.versions[name]
            said = [
                version.source,
                version.run_id,
                getattr(version, "model_id", None),
                *version.tags.values(),
            ]
            yield from named_in(str(text) for text in said)


@dataclass(frozen=True)
class Needs:
    """What is needed, and why."""

    everything: Everything
    why: Mapping[str, str]
    """Of each run, model and version that is needed, the reason of what has led to it."""

    @property
    def old_versions(self) -> list[str]:
        """Return the registered versions of modelmill that can go, as ``NAME/VERSION``."""
        found = self.everything.versions
        return sorted(name for name in found.keys() - self.why.keys() if TAG_DIGEST in found[name].tags)

    @property
    def old_runs(self) -> list[KnownRun]:
        """Return the runs that can go, those that were used longest ago first."""
        found = [run for name, run in self.everything.runs.items() if name not in self.why]
        return sorted(found, key=lambda run: (run.last_used, run.run_id))

    def reasons(self) -> dict[str, int]:
        """Return how many runs stay, by reason."""
        counted: dict[str, int] = {}
        for name in self.everything.runs:
            if name in self.why:
                counted[self.why[name]] = counted.get(self.why[name], 0) + 1
        return dict(sorted(counted.items(), key=lambda item: -item[1]))

    def pinned(self, uri: str) -> set[int]:
        """Return the versions of a table that what is needed has made, or has learnt from."""
        found = {
            version
            for name, run in self.everything.runs.items()
            if name in self.why
            for place, version in run.tables
            if place == uri
        }
        tags = [one.tags for name, one in self.everything.models.items() if name in self.why]
        tags += [one.tags for name, one in self.everything.versions.items() if name in self.why]
        for given in tags:
            found |= {dataset.version for dataset in learnt_datasets(given) if dataset.uri == uri}
        return found


def needed(client: MlflowClient, settings: Settings, policy: Policy, *, texts: Iterable[str] = ()) -> Needs:
    """Find what is needed.

    :param client: MLflow's client.
    :param settings: where the ledger and the work directory are.
    :param policy: how long things are kept.
    :param texts: documents, such as pipelines, rule sets and deployments: what they name is needed.
    :return: all there is, and why what stays does.
    :raises TableError: if the ledger cannot be read.
    :raises TransientError: if MLflow does not hand out a rule set, or a list of signals.
    """
    everything = Everything.of(client, settings)
    why: dict[str, str] = {}
    waiting = list(_roots(everything, entries(settings), policy, texts))[::-1]
    while waiting:
        name, reason = waiting.pop()
        if name not in why:
            why[name] = reason
            waiting += [(one, reason) for one in everything.needs(name)]
            waiting += [(one, reason) for one in _of_a_rule_set(everything.models.get(name), settings)]
            waiting += [(one, reason) for one in _of_signals(everything.runs.get(name), client)]
    return Needs(everything, why)


def _of_a_rule_set(model: LoggedModel | None, settings: Settings) -> set[str]:
    """Return the models that a rule set in MLflow names in its text, which is all that it consists of."""
    if model is None or model.model_type != "rules" or TAG_DIGEST not in model.tags:
        return set()
    try:
        folder = fetch_bundle(model_reference(model), settings.cache)
    except ModelError:  # it is damaged: nobody can use it either
        return set()
    return named_in(path.read_text() for path in files_below(folder))


def _of_signals(run: KnownRun | None, client: MlflowClient) -> set[str]:
    """Return the models that a run's lists name: a head that needs no learning is one of an earlier run."""
    found: set[str] = set()
    for signals in run.signals if run is not None and not run.is_deleted else ():
        try:
            found |= named_in(model.uri for model in read_signals(signals).values())
        except ModelError:  # it is damaged: nobody can use it either
            continue
        except TransientError:
            run_id, _, path = signals.uri.removeprefix("runs:/").partition("/")
            if any(file.path == path for file in client.list_artifacts(run_id)):
                raise
    return found


def _roots(
    everything: Everything, rows: Collection[LedgerRow], policy: Policy, texts: Iterable[str]
) -> Iterator[tuple[str, str]]:
    """Yield what is live, with the reason; the most telling reason first."""
    for name, aliases in everything.aliases.items():
        yield name, f"{name} is {' and '.join(sorted(aliases))}, or that was made from it"
    for name, reason in _of_the_ledger(rows, policy):
        yield name, reason
    for name, version in everything.versions.items():
        if TAG_DIGEST not in version.tags:
            yield name, f"{name} was registered by others"
        elif policy.version_is_young((version.creation_timestamp or 0) / 1000):
            yield name, "registered versions are kept" + _for(policy.version_days)
    for name in sorted(_named_in_documents(texts, everything.versions)):
        yield name, "a document names it"
    for run in everything.runs.values():
        if not run.has_ended and not run.is_deleted:
            yield run.run_id, "has not ended"
        elif policy.run_is_young(run.last_used):
            yield run.run_id, f"used in the last {policy.run_days:g} days, or needed by what was"


def _of_the_ledger(rows: Collection[LedgerRow], policy: Policy) -> Iterator[tuple[str, str]]:
    by_model: dict[str, list[LedgerRow]] = {}
    for row in rows:
        by_model.setdefault(row.model, []).append(row)
    for model, own in by_model.items():
        approved, before = last_approved(own), previous_champion(own)
        if own[-1].to_version is not None:
            yield f"{model}/{own[-1].to_version}", f"champion of {model} by the ledger"
        if before is not None:
            yield f"{model}/{before}", f"a rollback of {model} goes to version {before}"
        if approved is not None:
            yield f"{model}/{approved.version}", f"the gate of {model} counts from version {approved.version}"
        for row in own:
            if policy.version_is_young(row.time.timestamp()):
                named = named_in([row.run_id, row.evidence])
                named |= {f"{model}/{one}" for one in (row.from_version, row.to_version) if one is not None}
                yield from ((one, "the ledger names it" + _for(policy.version_days)) for one in named)


def _for(days: float | None) -> str:
    return "" if days is None else f" ({days:g} days)"


def inputs_tag(inputs: Iterable[Reference]) -> str:
    """Return what a run is to say of its inputs until it ends: a person may let it wait for weeks.

    :param inputs: the references.
    :return: value of :data:`TAG_INPUTS`. Of a very long one MLflow keeps the beginning.
    """
    given = list(inputs)
    tables = [str(one) for one in given if isinstance(one, TableRef | DatasetRef)]
    return "\n".join([" ".join(sorted(_named_by(given))), *tables])


def _inputs_of(tag: str) -> tuple[set[str], set[tuple[str, int]]]:
    """Return the names and tables in a tag of :func:`inputs_tag`."""
    names, *tables = tag.split("\n")
    found = [table.rpartition("@") for table in tables]
    return set(names.split()), {(uri, int(version)) for uri, _, version in found if version.isdecimal()}


def _named_by(references: Iterable[Reference]) -> set[str]:
    return named_in(one.model_dump_json(exclude=_PROSE) for one in references)


def named_in(texts: Iterable[str]) -> set[str]:
    """Return the runs, models and versions (``NAME/VERSION``) that texts name."""
    return {
        f"{found[1]}/{found[2]}" if found[1] else found[3]
        for text in texts
        for found in _NAMED.finditer(text)
    }


def _named_in_documents(texts: Iterable[str], versions: Collection[str]) -> set[str]:
    """Return what documents name: of ``models:/${topic}/3``, every version that it may stand for."""
    found: set[str] = set()
    for text in texts:
        found |= named_in([text])
        for template in {template for template in _TEMPLATE.findall(text) if "${" in template}:
            parts = _FILLED_IN.split(template)
            found |= {version for version in versions if _may_be(version, parts)}
    return found


def _may_be(version: str, parts: Sequence[str]) -> bool:
    """Return whether a text has some parts in their order, the first and the last at its ends."""
    place, end = len(parts[0]), len(version) - len(parts[-1])
    for part in parts[1:-1]:
        place = version.find(part, place)
        if place < 0:
            return False
        place += len(part)
    return version.startswith(parts[0]) and version.endswith(parts[-1]) and place <= end


def last_reuse(settings: Settings, experiment: str, key: str, run_id: str) -> float:
    """Return when this work directory last took a run's result for that of its step; 0 if it never did."""
    file = memory_file(settings.home, AskedRun(settings.tracking_uri, experiment, key))
    try:
        return file.stat().st_mtime if run_id in file.read_text() else 0.0
    except OSError:
        return 0.0
