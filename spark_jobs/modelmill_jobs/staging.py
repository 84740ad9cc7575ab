"""Intermediate results of a job: Parquet files below the folder of the table that it makes.

Engines differ in what they cache and in how they bound a shuffle's memory; files behave the same on all.
(Sail 0.7.2, for one, drops a sort in front of ``mapInArrow``, and ``applyInArrow`` holds all groups at once.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from modelmill.system.memory import trim
from modelmill.tables.lookup import LOOKUP_ROWS, Lookup
from modelmill.tables.staged_files import DataFile
from modelmill.tables.storage import table_files
from modelmill_jobs.parts import Cut, CutRows, Work, by_key, on_whole_part
from modelmill_jobs.paths import plain_path
from modelmill_jobs.writing import data_files, remove_folder

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import StructType

Then = tuple[Callable[["pa.RecordBatch"], "pa.RecordBatch"], Any]
"""What to do with each batch, and the Spark schema of the result."""
OnBatches = Callable[[Iterator[Any]], Iterator[Any]]

_COMPRESSION = "lz4"
"""Codec of files that are read a few times and thrown away: it takes the least work."""
_NO_DICTIONARY = {"dictionary_enabled": "false", "parquet.enable.dictionary": "false"}
"""As Sail calls it, and as a JVM Spark does."""
_BYTES_EACH = 1 << 20
"""Size of the batches that functions get, about."""
_ROWS_OUT = 16_384


class Stage:
    """A folder for intermediate results.

    :param spark: the session.
    :param place: the table's directory.
    :param folder: the folder, relative to it.
    """

    def __init__(self, spark: SparkSession, place: str, folder: str) -> None:
        self.spark = spark
        self.place = place
        self.folder = folder

    def write(self, rows: DataFrame, name: str) -> DataFrame:
        """Write rows, and return a data frame that reads them back.

        :param rows: the rows.
        :param name: name of the result; used once.
        :return: the same rows.
        """
        # Texts and identities hardly repeat: a dictionary, which is given up then, would be work for nothing,
        # and what repeats is small once it is compressed.
        rows.write.options(**_NO_DICTIONARY).parquet(self._path(name), compression=_COMPRESSION)
        trim()
        return self.read(name, rows.schema)

    def files(self, name: str) -> list[DataFile]:
        """Return the files of a result: paths relative to the table's directory, sizes and row counts."""
        return data_files(self.place, f"{self.folder}/{name}", recursive=True)

    def lookup(self, name: str, key: str, *, most_bytes: float = math.inf) -> Lookup | None:
        """Return a result for workers to look rows up in.

        :param name: name of the result.
        :param key: column of distinct whole numbers.
        :param most_bytes: size of the files from which a result is too large.
        :return: the lookup; None if the result is too large for that, and has to be joined.
        """
        files = self.files(name)
        if sum(file.rows for file in files) > LOOKUP_ROWS or sum(file.size for file in files) > most_bytes:
            return None
        return Lookup(self.place, tuple(file.path for file in files), key)

    def rows(self, name: str) -> int:
        """Return the number of rows of a result."""
        return sum(file.rows for file in self.files(name))

    def by_parts(
        self, rows: DataFrame, key: str, name: str, work: Work, schema: Any, *, count: int, each: int
    ) -> DataFrame:
        """Apply a function to parts of the rows; rows that share a key are in one part.

        Each part fits into one worker's memory. They are processed one after the other, since an engine would
        hold several at a time.

        :param rows: the rows.
        :param key: column of whole numbers; rows with the same number are in the same part.
        :param name: name of the result; used once.
        :param work: gets the rows of a part; not called for an empty part.
        :param schema: Spark schema of what it returns.
        :param count: number of rows.
        :param each: rows in a part, about.
        :return: the results of all parts.
        """
        parts = math.ceil(count / each)
        if parts <= 1:
            return self.write(rows.repartition(1).mapInArrow(on_whole_part(work), schema), name)
        return self.cut(rows, by_key(key, parts), name, work, schema, parts=parts)

    def cut(self, rows: DataFrame, cut: Cut, name: str, work: Work, schema: Any, *, parts: int) -> DataFrame:
        """Apply a function to parts of the rows, see :meth:`by_parts`.

        :param rows: the rows.
        :param cut: cuts pieces of them into parts.
        :param name: name of the result; used once.
        :param work: gets the rows of a part, all of its pieces; not called for an empty part.
        :param schema: Spark schema of what it returns.
        :param parts: number of parts.
        :return: the results of all parts.
        """
        made = CutRows.of(rows, cut, self.place, f"{self.folder}/{name}_parts", parts)
        for part in range(parts):
            one = self.spark.range(0, 1, 1, 1)
            self.write(one.mapInArrow(made.on_part(part, work), schema), f"{name}/{part}")
        remove_folder(self.place, made.folder)
        return self._read_parts(name, schema)

    def _path(self, name: str) -> str:
        return plain_path(f"{self.place}/{self.folder}/{name}")

    def read(self, name: str, schema: StructType | str) -> DataFrame:
        """Return a result that was written."""
        if not self.files(name):
            return self.spark.createDataFrame([], schema)
        return self.spark.read.schema(schema).parquet(self._path(name))

    def _read_parts(self, name: str, schema: StructType | str) -> DataFrame:
        """Return a result that was written in parts, ``name/PART`` each."""
        paths = [plain_path(f"{self.place}/{file.path}") for file in self.files(name)]
        if not paths:
            return self.spark.createDataFrame([], schema)
        return self.spark.read.schema(schema).parquet(*paths)


def map_batches(
    rows: DataFrame, work: OnBatches, schema: StructType | str, *, bytes_each: int = _BYTES_EACH
) -> DataFrame:
    """Apply a function to Arrow batches, whatever the names of the columns.

    Spark Connect's ``mapInArrow`` selects the columns by name, and Sail takes a name with a dot in it for a
    field of a struct: so the columns are renamed on the way.

    :param rows: the rows.
    :param work: gets the batches that have rows, and yields others.
    :param schema: Spark schema of what it yields.
    :param bytes_each: size of the batches that it gets, about.
    :return: what it yields.
    """
    names = rows.columns

    def on_batches(batches: Iterator[Any]) -> Iterator[Any]:
        return work(piece.rename_columns(names) for batch in batches for piece in _small(batch, bytes_each))

    return rows.toDF(*(f"_mm_{place}" for place in range(len(names)))).mapInArrow(on_batches, schema)


def _small(batch: pa.RecordBatch, size: int) -> Iterator[pa.RecordBatch]:
    """Cut a batch: work on small ones reuses memory, so the kernel need not clear fresh pages."""
    rows = max(1, batch.num_rows * size // max(1, batch.nbytes))
    return (batch.slice(start, rows) for start in range(0, batch.num_rows, rows))


def join(
    rows: DataFrame,
    result: DataFrame,
    lookup: Lookup | None,
    key: str,
    *,
    inner: bool = False,
    then: Then | None = None,
) -> DataFrame:
    """Return rows with the columns of a staged result.

    :param rows: the rows.
    :param result: the result, as :class:`Stage` returned it.
    :param lookup: the same result for workers; None: the engine joins.
    :param key: the column that both have.
    :param inner: whether rows whose key the result does not have are left out.
    :param then: what to do with the joined batches. An engine queues batches between two functions, so one
        function that does both holds fewer.
    :return: all rows, nulls where the result has no such key; or what ``then`` makes of them.
    """
    from pyspark.sql import functions as sql
    from pyspark.sql.types import StructType

    added = [field for field in result.schema.fields if field.name != key]
    work, schema = then or (lambda batch: batch, StructType([*rows.schema.fields, *added]))
    if lookup is None or not lookup.paths:
        nulls = {field.name: sql.lit(None).cast(field.dataType) for field in added}
        found = (
            rows.join(result, key, "inner" if inner else "left")
            if lookup is None
            else rows.withColumns(nulls)
        )
        if lookup is not None and inner:
            found = found.limit(0)
        return found if then is None else map_batches(found, lambda batches: map(work, batches), schema)

    def on_batches(batches: Iterator[Any]) -> Iterator[Any]:
        return (work(lookup.joined(batch, inner=inner)) for batch in batches)

    return map_batches(rows, on_batches, schema)


def read_batches(
    place: str, paths: Iterable[str], *, columns: Sequence[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """Read files of results in a worker, piece by piece.

    :param place: the table's directory.
    :param paths: the files, relative to it.
    :param columns: what to read; None: all columns.
    :yields: the rows.
    """
    import pyarrow.parquet as pq

    files = table_files(place)
    for path in paths:
        with files.open_input_file(path) as source:
            yield from pq.ParquetFile(source, pre_buffer=False).iter_batches(_ROWS_OUT, columns=columns)


def spark_schema(schema: pa.Schema) -> Any:
    """Return the Spark schema for an Arrow schema."""
    from pyspark.sql.pandas.types import from_arrow_schema

    return from_arrow_schema(schema)
