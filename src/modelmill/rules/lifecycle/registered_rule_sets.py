"""Rule sets in MLflow: logged as ``python_function`` models, judged, and found again by name.

A rule set's bundle is one file, its JSON. It is promoted by the step ``promote`` like any model: what
proposes it is the verdict of a gate whose checks are about decisions.
"""

from __future__ import annotations

import tempfile
import warnings
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from modelmill.artifacts import ModelRef, TableRef, VerdictRef
from modelmill.errors import ConfigError
from modelmill.models.bundle import bundle_digest
from modelmill.registry.bundles import (
    LINEAGE_RUN_TAGS,
    TAG_DATASET,
    list_outputs,
    publish,
)
from modelmill.rules.confidence_bounds import upper_bound
from modelmill.rules.lifecycle.backtest import TryReport, lines, try_on
from modelmill.rules.reading import load_rule_set, parse_rule_set
from modelmill.rules.rule_set import RuleSet
from modelmill.signals.pins import pin_models
from modelmill.version import __version__

if TYPE_CHECKING:
    from modelmill.component import StepContext
    from modelmill.settings import Settings
    from modelmill.steps.gate_rules import GateRulesConfig
    from modelmill.steps.ports import TrialInputs

RULE_SET_FILE = "rule_set.json"
"""The file that a registered rule set is."""
ROLE = "rule_set"

_REQUIRED = ("mlflow", "pandas", "numpy", "pyarrow", "sqlglot", "hyperscan", "onnxruntime", "tokenizers")


def open_rule_set(source: str, settings: Settings) -> RuleSet:
    """Return a rule set, wherever it is kept.

    :param source: path or URL of a YAML file, or ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``.
    :param settings: where MLflow and the caches are.
    :return: the rule set.
    :raises RuleSetError: if it breaks a rule; all problems are listed.
    :raises ConfigError: if a registered model is no rule set, or does not exist.
    """
    if not source.startswith("models:/"):
        return load_rule_set(source)
    pin = pin_models([source], settings)[source]
    if pin.missing:
        raise ConfigError("a registered rule set must exist", got=pin.missing, remedy="promote one")
    return bundled_rule_set(pin.bundle(), source=source)


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


def log_rule_set(rule_set: RuleSet, table: TableRef, context: StepContext) -> ModelRef:
    """Log a rule set as an MLflow ``python_function`` model of the step's run.

    :param rule_set: the rule set.
    :param table: what it was tried on.
    :param context: the step's context.
    :return: the reference to hand on.
    """
    run = context.run
    run_tags = run.client.get_run(run.run_id).data.tags
    with tempfile.TemporaryDirectory(prefix="modelmill-rules-") as scratch:
        bundle, target = Path(scratch) / "bundle", Path(scratch) / "model"
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
            signature=ModelSignature(inputs=columns),
            mlflow_model=Model(run_id=run_id),
        )


def gate(config: GateRulesConfig, inputs: TrialInputs, context: StepContext) -> VerdictRef:
    """Judge a rule set by what it would decide otherwise than the one in use. A refusal is a verdict.

    :param config: the step's configuration.
    :param inputs: the table, and models of earlier steps.
    :param context: the step's context.
    :return: the verdict, for the step ``promote``.
    :raises RuleSetError: if the rule set breaks a rule; all problems are listed.
    """
    from modelmill.registry.promotion import champion

    current = champion(config.name, context.run.client)
    report, (_, tried) = try_on(config, inputs, context, against=current.uri if current else None)
    challenger = log_rule_set(tried.compiled.rule_set, inputs.table, context)
    same = current is not None and current.digest == challenger.digest
    reasons = () if same else decision_regression(report, config)
    uri = context.run.log_json({**report.model_dump(mode="json"), "reasons": reasons}, "gate/rules.json")
    for line in (*lines(report), *reasons):
        context.log(f"{config.name}: {line}")
    context.run.log_metrics({"gate/passed": float(not reasons)})
    return VerdictRef(
        passed=not reasons,
        name=config.name,
        challenger=challenger,
        champion_version=int(current.uri.rsplit("/", 1)[1]) if current else None,
        reasons=reasons,
        uri=uri,
        run_id=context.run.run_id,
        summary="\n".join(f"- {line}" for line in lines(report)),
    )


def decision_regression(report: TryReport, config: GateRulesConfig) -> tuple[str, ...]:
    """Return why a rule set may not take the place of the one in use.

    :param report: what it does on the table.
    :param config: the limits.
    :return: one line for each check that failed.
    """
    found = []
    if report.dead and not config.allow_dead:
        found.append(f"rules are true on no row: {', '.join(report.dead)}")
    if report.failures:
        found.append(f"signals cannot be computed: {', '.join(sorted(report.failures))}")
    difference = report.difference
    if difference is None:
        return tuple(found)
    share = difference.changed / difference.rows
    if share > config.max_changed:
        found.append(f"{share:.2%} of the rows change their decision; accepted are {config.max_changed:.2%}")
    decided = difference.better + difference.worse
    if difference.worse > difference.better:
        # An exact sign test (McNemar's): of the labelled rows that differ, at least half are for the better.
        high = upper_bound(difference.better, decided, doubt=1 - config.confidence)
        if high < 1 / 2:
            found.append(
                f"of {decided:,} labelled rows with another outcome {difference.worse:,} are for the worse"
            )
    return tuple(found)
