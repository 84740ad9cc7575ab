"""What a step's task tells Airflow's OpenLineage provider: tables at their versions, models by their digests.

The provider asks an operator when its task begins and ends (``get_openlineage_facets_on_…``). It runs in a
fork of the task's process, so nothing here opens a table or asks MLflow: the step's own process has said what
there is to say. Nothing of OpenLineage is imported unless the provider itself has asked.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from modelmill.artifacts import AnyReference, DatasetRef, ModelRef, SignalsRef, TableRef, VerdictRef
from modelmill.pipeline.request import StepResult
from modelmill.pipeline.table_uses import Uses
from modelmill.settings import Settings
from modelmill.tables.description import Column, TableUse

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors.base import OperatorLineage
    from openlineage.client.event_v2 import Dataset
    from openlineage.client.generated.base import DatasetFacet, RunFacet
    from openlineage.client.generated.schema_dataset import SchemaDatasetFacetFields

    from modelmill_operators.lineage_facets import ModelmillModelDatasetFacet, ModelmillStepRunFacet

PROVIDER = "airflow.providers.openlineage"

_SCHEMES: Mapping[str, str] = {"s3a": "s3", "s3n": "s3", "gcs": "gs"}
"""Other spellings of a store, by that of OpenLineage's naming conventions."""


def is_listened_to() -> bool:
    """Return whether Airflow's OpenLineage provider is installed, and its settings say where events go."""
    try:
        if importlib.util.find_spec(PROVIDER) is None:
            return False
    except ModuleNotFoundError:  # Airflow without any provider
        return False
    from airflow.providers.openlineage import conf

    return not conf.is_disabled()


def dataset_name(uri: str) -> tuple[str, str]:
    """Return the name of a table, as OpenLineage's naming conventions have it for its store.

    See https://openlineage.io/docs/spec/naming: ``s3://BUCKET`` and the key; ``file`` and the path of a local
    folder; for other stores the URI's scheme and authority, and its path.

    :param uri: of the table, as references have it.
    :return: namespace and name.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return "file", uri
    authority, _, path = rest.partition("/")
    return f"{_SCHEMES.get(scheme, scheme)}://{authority}", path


def model_name(uri: str, tracking_uri: str) -> tuple[str, str, str | None]:
    """Return the name of a model, and its version.

    OpenLineage's conventions have none for MLflow, so this follows what they have for servers: the namespace
    is ``mlflow://HOST:PORT``, or ``mlflow`` where no server is asked.

    :param uri: ``models:/NAME/VERSION``, ``models:/m-…``, or ``runs:/RUN_ID/PATH``.
    :param tracking_uri: as in ``MLFLOW_TRACKING_URI``.
    :return: namespace; the registered model's name, the logged model's id, or what follows ``runs:/``; the
        version of a registered model, else None.
    """
    server = urlsplit(tracking_uri)
    host = f"{server.hostname}:{server.port}" if server.port else str(server.hostname)
    namespace = f"mlflow://{host}" if server.scheme in ("http", "https") else "mlflow"
    kind, _, place = uri.partition(":/")
    name, _, version = place.partition("/")
    if kind == "models":
        return namespace, name, version or None
    return namespace, place, None


def task_lineage(
    component: str, found: Uses, result: StepResult | None
) -> OperatorLineage[Dataset, RunFacet]:
    """Return what a task tells of its step.

    :param component: what the step runs.
    :param found: what it has read and made.
    :param result: what it has yielded; None: it has not ended, or not ended well.
    :return: for the provider.
    """
    from airflow.providers.openlineage.extractors.base import OperatorLineage

    from modelmill_operators.lineage_facets import STEP_KEY

    described = {(one.uri, one.version): one for one in result.tables} if result else {}
    inputs: list[Dataset] = [*_inputs(found.read, described)]
    outputs: list[Dataset] = [*_outputs(found.made, described)]
    facets: dict[str, RunFacet] = {STEP_KEY: _step_facet(component, result)} if result else {}
    return OperatorLineage(inputs=inputs, outputs=outputs, run_facets=facets)


_Described = Mapping[tuple[str, int], TableUse]


def _inputs(references: Sequence[AnyReference], described: _Described) -> Iterable[Dataset]:
    from openlineage.client.event_v2 import InputDataset
    from openlineage.client.generated.base import InputDatasetFacet
    from openlineage.client.generated.input_statistics_input_dataset import InputStatisticsInputDatasetFacet

    for namespace, name, facets, use in _datasets(references, described):
        statistics: dict[str, InputDatasetFacet] = {}
        if use is not None and use.rows_read is not None:
            statistics["inputStatistics"] = InputStatisticsInputDatasetFacet(rowCount=use.rows_read)
        yield InputDataset(namespace=namespace, name=name, facets=facets, inputFacets=statistics)


def _outputs(references: Sequence[AnyReference], described: _Described) -> Iterable[Dataset]:
    from openlineage.client.event_v2 import OutputDataset
    from openlineage.client.generated.base import OutputDatasetFacet
    from openlineage.client.generated.output_statistics_output_dataset import (
        OutputStatisticsOutputDatasetFacet,
    )

    made = [one for one in references if not isinstance(one, VerdictRef)]  # its challenger was an input
    for namespace, name, facets, use in _datasets(made, described):
        statistics: dict[str, OutputDatasetFacet] = {}
        if use is not None and use.added is not None:
            statistics["outputStatistics"] = OutputStatisticsOutputDatasetFacet(
                rowCount=use.added.rows, size=use.added.size, fileCount=use.added.files
            )
        yield OutputDataset(namespace=namespace, name=name, facets=facets, outputFacets=statistics)


def _datasets(
    references: Sequence[AnyReference], described: _Described
) -> Iterator[tuple[str, str, dict[str, DatasetFacet], TableUse | None]]:
    """Yield namespace, name, facets and description of what is a dataset.

    Each version is one: two versions of a table, or of a model, may be read. A report is none: the step's run
    in MLflow has it.
    """
    tracking_uri = Settings.from_environment().tracking_uri
    for one in dict.fromkeys(one.challenger if isinstance(one, VerdictRef) else one for one in references):
        if isinstance(one, TableRef | DatasetRef):
            use = described.get((one.uri, one.version))
            yield *dataset_name(one.uri), _table_facets(one, use), use
        elif isinstance(one, ModelRef | SignalsRef):
            namespace, name, version = model_name(one.uri, tracking_uri)
            yield namespace, name, _model_facets(one, version), None


def _table_facets(table: TableRef | DatasetRef, use: TableUse | None) -> dict[str, DatasetFacet]:
    from openlineage.client.generated.dataset_type_dataset import DatasetTypeDatasetFacet
    from openlineage.client.generated.dataset_version_dataset import DatasetVersionDatasetFacet
    from openlineage.client.generated.schema_dataset import SchemaDatasetFacet
    from openlineage.client.generated.storage_dataset import StorageDatasetFacet

    facets: dict[str, DatasetFacet] = {
        "version": DatasetVersionDatasetFacet(datasetVersion=str(table.version)),
        "storage": StorageDatasetFacet(storageLayer="delta", fileFormat="parquet"),
        "datasetType": DatasetTypeDatasetFacet(datasetType="TABLE"),
    }
    if use is not None:
        facets["schema"] = SchemaDatasetFacet(fields=_fields(use.columns))
    return facets


def _fields(columns: Sequence[Column]) -> list[SchemaDatasetFacetFields]:
    from openlineage.client.generated.schema_dataset import SchemaDatasetFacetFields

    return [
        SchemaDatasetFacetFields(
            name=column.name,
            type=column.type,
            description=column.description or None,
            ordinal_position=place,
            fields=_fields(column.fields),
        )
        for place, column in enumerate(columns, start=1)
    ]


def _model_facets(model: ModelRef | SignalsRef, version: str | None) -> dict[str, DatasetFacet]:
    from openlineage.client.generated.dataset_type_dataset import DatasetTypeDatasetFacet
    from openlineage.client.generated.dataset_version_dataset import DatasetVersionDatasetFacet

    from modelmill_operators.lineage_facets import MODEL_KEY

    about = _model_facet(model)
    return {
        # What is not registered has no version but its content.
        "version": DatasetVersionDatasetFacet(datasetVersion=version or model.digest),
        "datasetType": DatasetTypeDatasetFacet(datasetType="MODEL", subType=about.format),
        MODEL_KEY: about,
    }


def _model_facet(model: ModelRef | SignalsRef) -> ModelmillModelDatasetFacet:
    from modelmill_operators.lineage_facets import ModelmillModelDatasetFacet

    if isinstance(model, SignalsRef):
        return ModelmillModelDatasetFacet(
            digest=model.digest,
            uri=model.uri,
            format="signals",
            mlflowRunId=model.run_id,
            signals=model.count,
        )
    return ModelmillModelDatasetFacet(
        digest=model.digest,
        uri=model.uri,
        format=model.format,
        mlflowRunId=model.run_id,
        role=model.role,
        parent=model.parent,
        trunk=model.trunk,
    )


def _step_facet(component: str, result: StepResult) -> ModelmillStepRunFacet:
    from modelmill_operators.lineage_facets import ModelmillStepRunFacet, ModelmillVerdict

    said = [one for one in result.outputs.values() if isinstance(one, VerdictRef)]
    verdicts = [
        ModelmillVerdict(
            name=one.name,
            passed=one.passed,
            challenger=one.challenger.uri,
            challengerDigest=one.challenger.digest,
            reasons=list(one.reasons),
            championVersion=one.champion_version,
        )
        for one in said
    ]
    return ModelmillStepRunFacet(
        component=component,
        stepKey=result.step_key,
        mlflowRunId=result.run_id,
        mlflowRunUrl=result.run_url or None,
        reused=result.reused,
        verdict=verdicts[0] if verdicts else None,  # no component yields two
    )
