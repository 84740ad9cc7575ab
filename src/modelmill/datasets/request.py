"""What the Spark job ``build_dataset`` is asked to do, and what it returns."""

from __future__ import annotations

from pydantic import Field

from modelmill.artifacts import DatasetRef, TableRef
from modelmill.datasets.build_record import Build, build_of
from modelmill.datasets.dataset_rows import KEY_COLUMN, SPLIT_COLUMN
from modelmill.datasets.options import BuildOptions
from modelmill.jobs import JobResult
from modelmill.tables.table_request import TableRequest


class BuildDatasetResult(JobResult):
    """A dataset, the refused rows with their reasons, and the duplicates with the keys of their originals."""

    dataset: DatasetRef
    quarantine: TableRef
    duplicates: TableRef
    build: Build


class BuildDatasetRequest(TableRequest[BuildDatasetResult]):
    """Make a dataset of a Delta table."""

    job = "build_dataset"

    options: BuildOptions = Field(description="What the columns mean, and how the dataset is made.")

    @property
    def quarantine(self) -> str:
        """The table for refused rows."""
        return f"{self.to}_quarantine"

    @property
    def duplicates(self) -> str:
        """The table for rows that another row stands for."""
        return f"{self.to}_duplicates"

    def result(self, version: int) -> BuildDatasetResult:
        """Return what a build has made.

        :param version: the version of the dataset's table that it committed.
        :return: the dataset and the quarantined rows.
        :raises TableError: if that version was not made by a build.
        """
        build = build_of(self.to, version)
        dataset = DatasetRef(
            uri=self.to,
            version=version,
            key=KEY_COLUMN,
            text=self.options.text,
            image=self.options.image,
            labels=self.options.labels,
            split=SPLIT_COLUMN,
        )
        quarantine = TableRef(uri=self.quarantine, version=build.quarantine_version)
        duplicates = TableRef(uri=self.duplicates, version=build.duplicates_version)
        return BuildDatasetResult(dataset=dataset, quarantine=quarantine, duplicates=duplicates, build=build)
