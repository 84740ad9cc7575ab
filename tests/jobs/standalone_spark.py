"""A standalone Spark as plain processes on the loopback interface: a master, workers, a Connect server."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

START_SECONDS = 120
CONNECT = "org.apache.spark.sql.connect.service.SparkConnectServer"
MASTER = "org.apache.spark.deploy.master.Master"
WORKER = "org.apache.spark.deploy.worker.Worker"

Process = subprocess.Popen[bytes]


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
        return True
    return False


class StandaloneSpark:
    """A master, workers of two cores each, and what is started on them; all end together.

    Of each worker an application gets one core, so that two applications run side by side.

    :param home: a Spark distribution.
    :param folder: for logs and for the workers' files.
    :param conf: settings of every application, as ``spark-defaults.conf`` has them.
    :param worker_memory: what each worker gives to executors.
    """

    def __init__(
        self,
        home: Path,
        folder: Path,
        *,
        conf: Mapping[str, str],
        worker_memory: str = "2g",
    ) -> None:
        self.home, self.folder, self.worker_memory = home, folder, worker_memory
        self.master_port = free_port()
        self.url = f"spark://127.0.0.1:{self.master_port}"
        self.workers: list[Process] = []
        self.started: list[Process] = []
        """All processes, those that have ended too."""
        (folder / "conf").mkdir(parents=True)
        settings = {
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.ui.enabled": "false",
            "spark.executor.cores": "1",
            "spark.cores.max": "2",
            "spark.shuffle.io.retryWait": "1s",  # of what a dead executor had
            "spark.log.level": "WARN",
            "spark.sql.warehouse.dir": str(folder / "warehouse"),
            **conf,
        }
        lines = [f"{name} {value}\n" for name, value in settings.items()]
        (folder / "conf/spark-defaults.conf").write_text("".join(lines))
        self.environment = {
            **os.environ,
            "SPARK_HOME": str(home),
            "SPARK_CONF_DIR": str(folder / "conf"),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "SPARK_LOCAL_DIRS": str(folder / "local"),  # a JVM that is killed leaves its blocks
            "PYSPARK_PYTHON": sys.executable,
        }

    @contextlib.contextmanager
    def running(self, *, workers: int = 2) -> Iterator[StandaloneSpark]:
        """Start the master and its workers, and stop everything at the end."""
        try:
            address = ("--host", "127.0.0.1", "--port", str(self.master_port), "--webui-port", "0")
            self._start("master", "spark-class", MASTER, *address)
            self.wait_for("master", "Bound MasterWebUI")
            for _ in range(workers):
                self.add_worker()
            yield self
        finally:
            for process in reversed(self.started):
                end(process)

    def add_worker(self) -> Process:
        """Start a worker, and wait until the master knows it."""
        name = f"worker{len(self.workers)}"
        memory = ("--cores", "2", "--memory", self.worker_memory)
        options = ("--host", "127.0.0.1", "--webui-port", "0", "--work-dir", str(self.folder / name))
        worker = self._start(name, "spark-class", WORKER, *options, *memory, self.url)
        self.workers.append(worker)
        self.wait_for(name, "Successfully registered with master")
        return worker

    def kill_worker(self) -> None:
        """Kill the oldest worker that runs, and its executors, as if the machine had gone."""
        worker = next(one for one in self.workers if one.poll() is None)
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()

    def connect_server(self) -> str:
        """Start a Spark Connect server on the master; return its URL."""
        port = free_port()
        conf = {"binding.address": "127.0.0.1", "binding.port": str(port)}
        options = [f"--conf=spark.connect.grpc.{name}={value}" for name, value in conf.items()]
        self.server = self._start(
            "connect", "spark-submit", "--class", CONNECT, "--master", self.url, *options
        )
        deadline = time.monotonic() + START_SECONDS
        while not answers(port):
            if self.started[-1].poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the Connect server does not answer:\n{self.log('connect')[-3000:]}")
            time.sleep(0.1)
        return f"sc://127.0.0.1:{port}"

    def kill_in(self, job: Callable[[], Any], *, writes: Path) -> Any:
        """Run a job, kill a worker as soon as tasks write below a folder, and start another one.

        :param job: what to run.
        :param writes: the folder.
        :return: what the job returns.
        """
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(job)
            while not running.done() and not any(writes.glob("**/_temporary/0/_temporary/*")):
                time.sleep(0.02)
            if running.done():
                raise RuntimeError(f"the job ended before a worker was killed: {running.result()}")
            self.kill_worker()
            self.add_worker()
            return running.result()

    def log(self, name: str) -> str:
        """Return what a process has logged."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def wait_for(self, name: str, text: str) -> None:
        """Wait until a process has logged a text."""
        process, deadline = self.started[-1], time.monotonic() + START_SECONDS
        while text not in self.log(name):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{name} has not logged {text!r}:\n{self.log(name)[-3000:]}")
            time.sleep(0.1)

    def _start(self, name: str, script: str, *arguments: str, **environment: str) -> Process:
        if script == "spark-class":
            environment["SPARK_DAEMON_MEMORY"] = "256m"
        with (self.folder / f"{name}.log").open("w") as output:
            process = subprocess.Popen(
                [str(self.home / "bin" / script), *arguments],
                cwd=self.folder,
                env={**self.environment, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.started.append(process)
        return process


def end(process: Process) -> None:
    """End a process and its group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
