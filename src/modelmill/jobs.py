"""Spark jobs: what a job is asked to do, where it is found, how it is started.

A job is a module with a function ``main(request, spark)``. Its request is one pydantic class, defined in the
library beside the code that starts the job, so both sides read the same fields::

    class CountRequest(JobRequest[CountResult]):      # their_library/count.py
        job = "count"
        table: TableRef

    def main(request: CountRequest, spark: SparkSession) -> CountResult: ...      # their_jobs/count.py

    if __name__ == "__main__":
        run_as_application(CountRequest, main)

``run_job(CountRequest(table=table))`` runs the job on the engine that the settings name: in this process, or,
where a Spark has no Connect server (``spark://host:7077``, ``yarn``), as what ``spark-submit`` starts.
``python -m their_jobs.count`` and ``spark-submit their_jobs/count.py`` run it as a process of its own; the
options come from the fields of the request (see :func:`run_as_application`).

Another distribution adds a job with an entry point in the group ``modelmill.jobs``::

    [project.entry-points."modelmill.jobs"]
    count = "their_jobs.count:main"
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from modelmill.errors import ConfigError, ModelmillError
from modelmill.extensions import Extensions
from modelmill.options import Options, Record
from modelmill.settings import Settings
from modelmill.spark import session
from modelmill.spark_submit import is_master, submit, write_error

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_OWN_JOBS = (
    "build_dataset",
    "decide",
    "extract_frames",
    "find_duplicate_videos",
    "ingest",
    "label_rows",
    "make_defects",
    "measure_videos",
    "probe_videos",
    "read_text_in_frames",
    "score_table",
)
# By name: the library does not depend on the jobs that are built on it.
JOBS = Extensions(
    "modelmill.jobs", noun="Spark job", own={name: f"modelmill_jobs.{name}:main" for name in _OWN_JOBS}
)
"""The ``main`` function of each job, by the job's name."""


class JobResult(Record):
    """Base of what a job returns; as an application, a job prints it as one line of JSON."""


ResultT = TypeVar("ResultT", bound=JobResult)


class JobRequest(Options, Generic[ResultT]):
    """Base of what a job is asked to do."""

    job: ClassVar[str]
    """Name of the job."""


def run_job(request: JobRequest[ResultT], *, settings: Settings | None = None) -> ResultT:
    """Run a Spark job, and wait for its end.

    :param request: what to do; its class names the job.
    :param settings: which engine to use; None: from the environment.
    :return: what the job returns.
    :raises ConfigError: if there is no such job, or the engine is not installed.
    :raises InputError: if the job refuses its input.
    :raises TransientError: if the engine does not answer, or an application fails.
    """
    settings = settings or Settings.from_environment()
    main = JOBS.load(request.job)
    if settings.spark_remote is not None and is_master(settings.spark_remote):
        kind = type(request)
        text = submit(
            settings.spark_remote,
            job=request.job,
            request_type=f"{kind.__module__}:{kind.__name__}",
            request=request.model_dump_json(),
        )
        # A request says by its base, such as JobRequest[CountResult], what it is answered with.
        answer: ResultT = _result_type(kind).model_validate_json(text)
        return answer
    with session(settings) as spark:
        result: ResultT = main(request, spark)
    return result


def _result_type(kind: type[JobRequest[ResultT]]) -> type[ResultT]:
    """Return the class of what a request is answered with."""
    for base in kind.__mro__:
        arguments = getattr(base, "__pydantic_generic_metadata__", {}).get("args")
        if arguments:
            found: type[ResultT] = arguments[0]
            return found
    raise ConfigError("the class of a request names its result: JobRequest[RESULT]", got=kind.__name__)


def run_submitted() -> None:
    """Run a job in the application that :func:`modelmill.spark_submit.submit` has started.

    The process's arguments are the file with what is asked, and the file for the answer.
    """
    asked, answer = map(Path, sys.argv[1:3])
    try:
        whole = json.loads(asked.read_text())
        module, _, name = whole["request_type"].partition(":")
        request = getattr(importlib.import_module(module), name).model_validate_json(whole["request"])
        main = JOBS.load(whole["job"])
        with session() as spark:
            result = main(request, spark)
    except ModelmillError as error:
        write_error(answer, error)
        sys.exit(error.exit_status)
    answer.write_text(json.dumps({"result": result.model_dump_json()}))


def run_as_application(
    request_type: type[JobRequest[ResultT]],
    main: Callable[[Any, SparkSession], ResultT],
    argv: Sequence[str] | None = None,
) -> None:
    """Run a job as the process's own work, and end the process.

    The request is given as JSON (``--request TEXT_OR_FILE``), field by field (``--to /tables/news``, where a
    field that is not a plain value takes JSON), or both: a single field wins. The result goes to standard
    output as one line of JSON, an error to standard error; the exit status is 2 if a retry cannot help.

    :param request_type: class of the request.
    :param main: the job.
    :param argv: arguments; None: the process's own.
    """
    try:
        request = _request(request_type, argv)
        with session() as spark:
            result = main(request, spark)
    except ModelmillError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        sys.exit(error.exit_status)
    sys.stdout.write(result.model_dump_json() + "\n")


def _request(request_type: type[JobRequest[ResultT]], argv: Sequence[str] | None) -> JobRequest[ResultT]:
    parser = argparse.ArgumentParser(description=request_type.__doc__, argument_default=argparse.SUPPRESS)
    parser.add_argument("--request", help="the whole request: JSON, or a file with it", metavar="JSON")
    for name, field in request_type.model_fields.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}", help=(field.description or "").replace("%", "%%"), metavar="VALUE"
        )
    given = vars(parser.parse_args(argv))
    whole = given.pop("request", None)
    values: dict[str, Any] = {} if whole is None else _json(whole)
    for name, text in given.items():
        values[name] = _value(request_type.model_fields[name].annotation, text)
    try:
        return request_type.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ConfigError(
            f"the request of the job {request_type.job!r} must be valid: {place}: {first['msg']}",
            got=first["input"] if place and first["type"] != "missing" else None,
            remedy="see --help",
        ) from error


def _json(whole: str) -> dict[str, Any]:
    try:
        text = whole if whole.lstrip().startswith("{") else Path(whole).read_text(encoding="utf-8")
        found: dict[str, Any] = json.loads(text)
    except (OSError, ValueError) as error:
        raise ConfigError(f"a request is JSON, or a file with it ({error})", got=whole) from error
    return found


def _value(annotation: Any, text: str) -> Any:
    """Return what an option says: the text where the field takes one, else the JSON in it."""
    with contextlib.suppress(ValidationError):
        TypeAdapter(annotation).validate_python(text)
        return text
    with contextlib.suppress(ValueError):
        return json.loads(text)
    return text
