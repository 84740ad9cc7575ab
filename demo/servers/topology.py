"""A company's servers as plain processes on the loopback interface, started and ended together."""

from __future__ import annotations

import contextlib
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import yaml

from demo.servers.airflow_server import LocalAirflow
from demo.servers.mlflow_server import LocalMlflow
from demo.servers.object_store import LocalObjectStore
from demo.servers.postgres_server import LocalPostgres
from demo.servers.processes import LocalServer
from demo.servers.redis_server import LocalRedis
from demo.servers.spark_cluster import LocalSpark

ROOT = Path(__file__).parents[2]
QUEUES = ("cpu", "gpu")
BUCKET = "models"
USER = "factory"
START_SECONDS = 300.0
PROFILES = {
    "cpu": {"queue": "cpu", "python": sys.executable},
    "gpu": {"queue": "gpu", "python": sys.executable, "gpus": 1, "pool": "gpus", "pool_slots": 1},
}


def missing() -> list[str]:
    """Return what this machine lacks, each with how to get it; empty if it has all."""
    lacking = []
    if LocalPostgres.binaries() is None:
        lacking.append("PostgreSQL: apt-get install postgresql")
    if LocalRedis.program() is None:
        lacking.append("Redis: apt-get install redis-server")
    if LocalSpark.find(ROOT) is None:
        lacking.append(
            "Java 17 and Spark: apt-get install openjdk-17-jre-headless, then scripts/fetch_spark.sh"
        )
    return lacking


class Topology:
    """PostgreSQL, Redis, an object store, MLflow, Spark, and Airflow with a Celery worker for each queue.

    Airflow, MLflow and MLflow's users have a database each in PostgreSQL. MLflow keeps artifacts in the
    object store, whose key no other process has; the steps speak to it as a user with a password, who is no
    administrator. The Spark jobs run on a standalone cluster of two workers, by Spark Connect. Tables and the
    work directory are in a folder that all see.

    :param home: folder for data and logs.
    :param dags_folder: folder with DAG files.
    :param environment: more variables of Airflow and its tasks; None as a value removes one.
    :param python: interpreter of Airflow's environment; None: this one. The steps have this one.
    """

    def __init__(
        self,
        home: Path,
        dags_folder: Path,
        *,
        environment: Mapping[str, str | None] | None = None,
        python: str | None = None,
    ) -> None:
        self.home = home.absolute()
        self._stack = contextlib.ExitStack()
        distribution = LocalSpark.find(ROOT)
        if distribution is None:
            raise FileNotFoundError("; ".join(missing()))
        databases = ("airflow", "mlflow", "mlflow_users")
        self.postgres = LocalPostgres(self.home / "postgres", databases=databases)
        self.redis = LocalRedis(self.home / "redis")
        self.store = LocalObjectStore(self.home / "store", buckets=(BUCKET,))
        self.spark = LocalSpark(self.home / "spark", distribution)
        self.mlflow = LocalMlflow(
            self.home / "mlflow",
            database=self._database("mlflow"),
            users=self._database("mlflow_users"),
            artifacts=f"s3://{BUCKET}/mlflow",
            environment=self.store.environment("mlflow", "the store takes any"),
        )
        self.environment = {
            "MLFLOW_TRACKING_URI": self.mlflow.url,
            "MLFLOW_TRACKING_USERNAME": USER,
            "MLFLOW_TRACKING_PASSWORD": secrets.token_urlsafe(24),
            "MODELMILL_HOME": str(self.home / "work"),
            "MODELMILL_SPARK_REMOTE": self.spark.remote,
        }
        """What a step's process needs to work here."""
        self.airflow = self._airflow(dags_folder, environment or {}, python)

    def _database(self, name: str) -> str:
        # Without the driver's name, SQLAlchemy 2.1 would want psycopg, which nobody installs.
        return f"postgresql+psycopg2://{self.postgres.address(name)}"

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as started:
            for server in (self.postgres, self.redis, self.store, self.spark):
                self._start(started, server)
            self.postgres.wait_ready()
            self.store.wait_ready()
            self._start(started, self.mlflow)
            self.redis.wait_ready()
            self._start(started, self.airflow)
            self.spark.wait_ready()
            self.spark.start_connect()
            self.mlflow.wait_ready(timeout=START_SECONDS)
            self.mlflow.make_user(USER, self.environment["MLFLOW_TRACKING_PASSWORD"])
            self.spark.wait_connect()
            self.airflow.wait_ready(timeout=START_SECONDS)
            self.airflow.warm_up(timeout=START_SECONDS)
            self._stack = started.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    @staticmethod
    def _start(started: contextlib.ExitStack, server: LocalServer) -> None:
        started.callback(server.stop)
        server.start()

    def _airflow(
        self, dags_folder: Path, given: Mapping[str, str | None], python: str | None
    ) -> LocalAirflow:
        profiles = self.home / "profiles.yaml"
        profiles.parent.mkdir(parents=True, exist_ok=True)
        profiles.write_text(yaml.safe_dump(PROFILES))
        environment = {
            **self.environment,
            "MODELMILL_PIPELINES": None,
            "AIRFLOW__MODELMILL__PROFILES": str(profiles),
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": self._database("airflow"),
            "AIRFLOW__CELERY__RESULT_BACKEND": f"db+{self._database('airflow')}",
            "AIRFLOW__CELERY__BROKER_URL": self.redis.url,
            **given,
        }
        home = self.home / "airflow"
        return LocalAirflow(home, dags_folder, environment=environment, queues=QUEUES, python=python)
