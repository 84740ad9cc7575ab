"""Rule sets in MLflow: logged as ``python_function`` models, and found again by name.

A rule set's bundle is one file, its JSON. It is promoted by the step ``promote`` like any model: what
proposes it is the verdict of a gate whose checks are about decisions.
"""

from __future__ import annotations

import contextlib
import hashlib
import warnings
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from modelmill.artifacts import ModelRef, TableRef
from modelmill.errors import ConfigError, TableError
from modelmill.models.bundle import bundle_digest
from modelmill.registry.bundles import (
    LINEAGE_RUN_TAGS,
    TAG_DATASET,
    list_outputs,
    publish,
)
from modelmill.rules.evaluation.decisions import DECISION_COLUMNS
from modelmill.rules.pinned_rule_set import STEP_MODEL
from modelmill.rules.reading import load_rule_set, parse_rule_set
from modelmill.rules.rule_set import RuleSet
from modelmill.settings import environment_params
from modelmill.signals.pinned_models import pin_models
from modelmill.system.scratch import scratch_folder
from modelmill.tables.preview import check_below
from modelmill.tables.source_files import check_source
from modelmill.version import __version__

if TYPE_CHECKING:
    from modelmill.registry.tracking import StepRun
    from modelmill.settings import Settings

RULE_SET_FILE = "rule_set.json"
"""The file that a registered rule set is."""
ROLE = "rule_set"

_REQUIRED = ("mlflow", "pandas", "numpy", "pyarrow", "sqlglot", "hyperscan", "onnxruntime", "tokenizers")


def open_rule_set(source: str, settings: Settings, *, anywhere: bool = False) -> RuleSet:
    """Return a rule set that is kept in MLflow, or in a file that the deployment lets steps read.

    A file that is no rule set is quoted in the error: so a pipeline may not name any file or server.

    :param source: path or URL of a YAML file, or ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``.
    :param settings: where MLflow and the caches are.
    :param anywhere: whether an administrator has named it, so that the file may lie anywhere.
    :return: the rule set.
    :raises RuleSetError: if it breaks a rule; all problems are listed.
    :raises ConfigError: if a registered model is no rule set, or does not exist.
    :raises TableError: if the file lies where steps may not read.
    """
    if not source.startswith("models:/"):
        if not anywhere:
            _check_place(source)
        return load_rule_set(source)
    pin = pin_models([source], settings)[source]
    if pin.missing:
        raise ConfigError("a registered rule set must exist", got=pin.missing, remedy="promote one")
    return bundled_rule_set(pin.bundle(), source=source)


def _check_place(source: str) -> None:
    """Make sure that a file lies in the deployment's folder of rule sets, or where data may lie."""
    kept = environment_params().get("rules")
    if kept:
        with contextlib.suppress(TableError):
            check_below(source, [kept])
            return
    check_source(source)


def bundled_rule_set(folder: Path, *, source: str) -> RuleSet:
    """Return the rule set that a bundle is.

    :param folder: the bundle.
    :param source: what was asked for, for messages.
    :return: the rule set.
    :raises ConfigError: if the bundle is another model's.
    """
    place = folder / RULE_SET_FILE
    if not place.is_file():
        raise ConfigError(
            "a registered rule set holds one", got=source, remedy="name a rule set, not a model"
        )
    return parse_rule_set(place.read_text(), source=source)


def log_rule_set(rule_set: RuleSet, table: TableRef, context: StepRun) -> ModelRef:
    """Log a rule set as an MLflow ``python_function`` model of the step's run.

    :param rule_set: the rule set.
    :param table: what it was tried on.
    :param context: the step that makes it.
    :return: the reference to hand on.
    """
    run = context.run
    run_tags = run.client.get_run(run.run_id).data.tags
    with scratch_folder("modelmill-rules-") as scratch:
        bundle, target = scratch / "bundle", scratch / "model"
        bundle.mkdir()
        (bundle / RULE_SET_FILE).write_text(rule_set.model_dump_json(indent=1, exclude_defaults=False))
        digest = bundle_digest(bundle)
        _save(bundle, target, rule_set, digest=digest, run_id=run.run_id)
        uri = publish(
            target,
            digest,
            context,
            role=ROLE,
            kind="rules",
            tags={
                TAG_DATASET: str(table),
                "modelmill.rule_set": f"{rule_set.rule_set}@{rule_set.digest}",
                **{name: run_tags[name] for name in LINEAGE_RUN_TAGS if name in run_tags},
            },
        )
        list_outputs([uri], context)
    return ModelRef(uri=uri, run_id=run.run_id, digest=digest, format="rules", role=ROLE)


def _save(bundle: Path, target: Path, rule_set: RuleSet, *, digest: str, run_id: str) -> None:
    from mlflow.models import Model, ModelSignature
    from mlflow.pyfunc import save_model
    from mlflow.types import ColSpec, Schema
    from mlflow.types.schema import AnyType

    # Types are the table's affair: a rule set takes whatever kind of number a column has.
    kind = AnyType()  # type: ignore[no-untyped-call] # MLflow has no types here
    columns = Schema([ColSpec(kind, name) for name in rule_set.columns()])
    # Without the key, which has any type: spark_udf would make a variant of it.
    decisions = Schema([ColSpec("string", name, required=False) for name in DECISION_COLUMNS])

    pinned = [f"{name}=={metadata.version(name).partition('+')[0]}" for name in _REQUIRED]
    with warnings.catch_warnings():
        # MLflow asks for type hints of its own, and would look for requirements in a subprocess.
        warnings.simplefilter("ignore")
        save_model(
            path=str(target),
            python_model=str(Path(__file__).with_name("pyfunc_script.py")),
            artifacts={"bundle": str(bundle)},
            model_config={"digest": digest},
            pip_requirements=[f"modelmill=={__version__}", *pinned],
            signature=ModelSignature(inputs=columns, outputs=decisions),
            mlflow_model=Model(run_id=run_id),
        )


def rule_set_state(source: str, settings: Settings) -> str:
    """Return a fingerprint of a rule set and of the present versions of its models.

    :param source: see :func:`open_rule_set`.
    :param settings: where MLflow is.
    :return: a text that changes whenever a run might decide otherwise.
    """
    rule_set = open_rule_set(source, settings)
    pins = pin_models([name for name in rule_set.models if not name.startswith(STEP_MODEL)], settings)
    versions = "".join(f"{name}={pin.version}\n" for name, pin in sorted(pins.items()))
    return hashlib.sha256(f"{rule_set.digest}\n{versions}".encode()).hexdigest()
