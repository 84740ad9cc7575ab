"""The pipeline store: a folder of pipeline files with every version that was ever saved."""

from __future__ import annotations

from modelmill.documents.versioned_folder import VersionedFolder
from modelmill.documents.versions import Stored
from modelmill.pipeline.pipeline_files import PIPELINES, PipelineFile

StoredPipeline = Stored[PipelineFile]


class PipelineStore(VersionedFolder[PipelineFile]):
    """Pipelines in a folder; a pipeline's name is its DAG's id.

    :param folder: local folder or fsspec URL.
    """

    def __init__(self, folder: str) -> None:
        super().__init__(folder, PIPELINES)
