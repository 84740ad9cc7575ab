"""A standalone Spark on the loopback interface: a master, workers, a Connect server."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from demo.servers.processes import LOOPBACK, LocalServer, ServerError, Servers, free_port

_CONNECT = "org.apache.spark.sql.connect.service.SparkConnectServer"
_MASTER = "org.apache.spark.deploy.master.Master"
_WORKER = "org.apache.spark.deploy.worker.Worker"
START_SECONDS = 120.0
SMALL: Mapping[str, str] = {
    "spark.driver.memory": "768m",
    "spark.executor.memory": "768m",
    # Where jobs are short, compiling takes longer than it saves.
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
    "spark.executor.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.shuffle.partitions": "1",
}
"""Settings for tables of some thousand rows."""


class LocalSpark(LocalServer):
    """A master, workers of two cores each, and a Connect server if it is asked for; all end together.

    Of each worker an application gets one core, so that two applications run side by side.

    :param home: folder for logs and for the workers' files.
    :param distribution: a Spark distribution: the folder that ``scripts/fetch_spark.sh`` fills.
    :param conf: settings of every application, as ``spark-defaults.conf`` has them.
    :param workers: number of workers.
    :param worker_memory: what each worker gives to executors.
    """

    def __init__(
        self,
        home: Path,
        distribution: Path,
        *,
        conf: Mapping[str, str] = SMALL,
        workers: int = 2,
        worker_memory: str = "2g",
    ) -> None:
        super().__init__(home)
        self.distribution, self.worker_memory = distribution, worker_memory
        self._first_workers = workers
        self._conf = {
            "spark.driver.host": LOOPBACK,
            "spark.driver.bindAddress": LOOPBACK,
            "spark.ui.enabled": "false",
            "spark.executor.cores": "1",
            "spark.cores.max": "2",
            "spark.shuffle.io.retryWait": "1s",  # of what a dead executor had
            "spark.log.level": "WARN",
            "spark.sql.warehouse.dir": str(self.home / "warehouse"),
            **conf,
        }
        self.connect_port = free_port()
        self.workers: list[str] = []
        """Names of the workers, those that were killed too."""
        self._killed = 0

    @property
    def url(self) -> str:
        """Where the master answers."""
        return f"spark://{LOOPBACK}:{self.port}"

    @property
    def remote(self) -> str:
        """Where the Connect server answers once it has been started."""
        return f"sc://{LOOPBACK}:{self.connect_port}"

    @staticmethod
    def find(root: Path) -> Path | None:
        """Return the distribution that ``scripts/fetch_spark.sh`` has fetched; None without it or Java.

        :param root: this repository.
        :return: its folder.
        """
        folder = Path(os.environ.get("MODELMILL_TEST_SPARK_HOME") or root / ".modelmill/spark/pyspark")
        return folder if shutil.which("java") and (folder / "bin/spark-submit").exists() else None

    def environment(self) -> dict[str, str]:
        """Return what every process of Spark gets, and who calls ``spark-submit`` needs."""
        return {
            "SPARK_HOME": str(self.distribution),
            "SPARK_CONF_DIR": str(self.home / "conf"),
            "SPARK_LOCAL_IP": LOOPBACK,
            "SPARK_LOCAL_DIRS": str(self.home / "local"),  # a JVM that is killed leaves its blocks
            "PYSPARK_PYTHON": sys.executable,
        }

    def start(self) -> None:
        """Start the master; returns before it answers."""
        (self.home / "conf").mkdir(parents=True, exist_ok=True)
        lines = [f"{name} {value}\n" for name, value in self._conf.items()]
        (self.home / "conf/spark-defaults.conf").write_text("".join(lines))
        self.servers = Servers(self.home / "logs", {**os.environ, **self.environment()})
        self._start("master", "spark-class", _MASTER, "--port", str(self.port))

    def wait_ready(self, *, timeout: float = START_SECONDS) -> None:
        """Wait until the master answers, start its workers, and wait until it knows them.

        :param timeout: seconds.
        :raises ServerError: if one ends, or the time is over.
        """
        self._wait_for("master", "Bound MasterWebUI", timeout)  # a worker asks again only after seconds
        for _ in range(self._first_workers - len(self.workers)):
            self._start_worker()
        for name in self.workers[self._killed :]:
            self._wait_for(name, "Successfully registered with master", timeout)

    def add_worker(self) -> None:
        """Start a worker, and wait until the master knows it."""
        self._wait_for(self._start_worker(), "Successfully registered with master", START_SECONDS)

    def kill_worker(self) -> None:
        """Kill the oldest worker that runs, and its executors, as if the machine had gone."""
        if self.servers is None:
            raise RuntimeError("start() comes before kill_worker()")
        self.servers.kill(self.workers[self._killed])
        self._killed += 1

    def start_connect(self) -> None:
        """Start a Spark Connect server on the master; returns before it answers."""
        conf = {"binding.address": LOOPBACK, "binding.port": str(self.connect_port)}
        options = [f"--conf=spark.connect.grpc.{name}={value}" for name, value in conf.items()]
        self._start("connect", "spark-submit", "--class", _CONNECT, "--master", self.url, *options)

    def connect_server(self) -> str:
        """Start a Spark Connect server on the master, wait until it answers; return its URL."""
        self.start_connect()
        self.wait_connect()
        return self.remote

    def wait_connect(self, *, timeout: float = START_SECONDS) -> None:
        """Wait until the Connect server answers.

        :param timeout: seconds.
        :raises ServerError: if it ends, or the time is over.
        """

        def answers() -> bool:
            try:
                socket.create_connection((LOOPBACK, self.connect_port), timeout=5).close()
            except OSError:
                return False
            return True

        if self.servers is None:
            raise RuntimeError("start_connect() comes before wait_connect()")
        self.servers.wait_until(answers, what="the Spark Connect server", timeout=timeout)

    def kill_in(self, job: Callable[[], Any], *, writes: Path) -> Any:
        """Run a job, kill a worker as soon as tasks write below a folder, and start another one.

        :param job: what to run.
        :param writes: the folder.
        :return: what the job returns.
        :raises ServerError: if the job ends before.
        """
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(job)
            while not running.done() and not any(writes.glob("**/_temporary/0/_temporary/*")):
                time.sleep(0.02)
            if running.done():
                raise ServerError("a job must write before its end", got=running.result())
            self.kill_worker()
            self.add_worker()
            return running.result()

    def log(self, name: str) -> str:
        """Return what a process has logged.

        :param name: ``master``, ``worker0``, …, or ``connect``.
        :return: its whole log.
        """
        return (self.home / "logs" / f"{name}.log").read_text(errors="replace")

    def _start_worker(self) -> str:
        name = f"worker{len(self.workers)}"
        options = ["--work-dir", str(self.home / name), "--cores", "2", "--memory", self.worker_memory]
        self._start(name, "spark-class", _WORKER, *options, self.url)
        self.workers.append(name)
        return name

    def _wait_for(self, name: str, text: str, timeout: float) -> None:
        if self.servers is None:
            raise RuntimeError("start() comes before wait_ready()")
        self.servers.wait_until(lambda: text in self.log(name), what=f"Spark's {name}", timeout=timeout)

    def _start(self, name: str, script: str, application: str, *arguments: str) -> None:
        servers, more = self.servers, dict[str, str]()
        if servers is None:
            raise RuntimeError("start() comes first")
        command = [str(self.distribution / "bin" / script), application, *arguments]
        if script == "spark-class":
            command[2:2] = ["--host", LOOPBACK, "--webui-port", "0"]
            more["SPARK_DAEMON_MEMORY"] = "256m"
        servers.start(name, command, more)
