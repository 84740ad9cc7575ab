"""Where a deployment keeps things, read from environment variables.

Every process of a pipeline (Airflow task, step, Spark driver, service) can be given those.

===========================  =========================================================================
``MODELMILL_HOME``           work directory: caches, checkpoints, the ledger. Default ``./.modelmill``
``MODELMILL_LEDGER``         URI of the promotion ledger (a Delta table). Default ``HOME/ledger``
``MODELMILL_DEPLOYMENTS``    folder or URI where services read what to serve. Default ``HOME/deployments``
``MODELMILL_SIGNING_KEY``    PEM file of the private key that models are signed with. Default: they are not
``MODELMILL_TRUSTED_KEYS``   PEM files of public keys, separated by commas: models that none of them verifies
                             are neither promoted nor loaded. Default: signatures are not asked for
``MODELMILL_SPARK_REMOTE``   Spark Connect URL (``sc://host:port``), or a master for ``spark-submit``
                             (``spark://host:port``, ``yarn``). Default: Sail, in process, no Java
``MODELMILL_PYTHON``         interpreter that runs the steps. Default: the caller's own
``MODELMILL_PIPELINES``      folder or fsspec URL of pipeline files. Default ``pipelines``, beside the
                             loading DAG file (the canvas needs it set)
``MODELMILL_TABLES``         places, separated by commas, below which the canvas may show tables
``MODELMILL_LABELLING``      folder or URI of what people label on the canvas. Default ``HOME/labelling``
``MODELMILL_USER``           who asked for a run, for the ledger; the operators name who triggered the DAG
                             run. Default: the user that the process runs as
``MODELMILL_LLM_URL``        URL of a language model's endpoint, up to and with ``/v1``, and
``MODELMILL_LLM_KEY``        its key, for steps that name no Airflow connection. Default: none
``MODELMILL_SOURCES``        places, separated by commas, below which ``ingest`` and the steps over videos
                             may read files. Default: object stores, and local folders that are neither
                             the system's nor hidden in a home
``MODELMILL_STORES``         protocols that tables may have, separated by commas, beside those of the usual
                             object stores and HDFS; or places, such as ``hdfs://name:8020``: tables of that
                             kind of store then lie there alone
``MODELMILL_SERVICES``       addresses of services, separated by commas, that ``deploy`` may ask. Default: all
                             but link-local ones (169.254.…) and those of clouds' metadata
``MODELMILL_CACHE_DAYS``     days after which ``modelmill gc`` removes what nobody has used in the cache,
``MODELMILL_RUN_DAYS``       runs that nothing needs, with their models, and also
``MODELMILL_VERSION_DAYS``   registered versions; and the days that a reader can go back in the tables that
``MODELMILL_TABLE_DAYS``     it is told. Default: all of that stays
``MODELMILL_PARAM_<NAME>``   default of the pipeline parameter ``<name>`` where a pipeline sets none
``MODELMILL_MLFLOW_REPLY``   seconds that MLflow may take for a reply. Default 30
``MODELMILL_MLFLOW_CALL``    seconds that a call to MLflow may take with all its retries. Default 180
``MLFLOW_TRACKING_URI``      MLflow's own variable. Default: SQLite and files below ``HOME``
===========================  =========================================================================
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from modelmill.errors import ConfigError

PARAM_PREFIX = "MODELMILL_PARAM_"


@dataclass(frozen=True)
class Settings:
    """Settings of this process."""

    home: Path
    ledger: str
    deployments: str
    spark_remote: str | None
    """None for the embedded engine."""
    python: str
    tracking_uri: str
    signing_key: str | None = None
    """None: models are not signed."""
    trusted_keys: tuple[str, ...] = ()
    """Empty: signatures are not looked at."""
    labelling: str = ""
    """Empty: ``labelling`` in the home."""

    @property
    def cache(self) -> Path:
        """What can be made again; all steps of this machine share it."""
        return self.home / "cache"

    @property
    def digests(self) -> Path:
        """Where the digests of files are kept."""
        return self.cache / "digests"

    @property
    def queues(self) -> str:
        """Where the queues of rows to label lie."""
        return self.labelling or str(self.home / "labelling")

    @property
    def artifact_root(self) -> Path | None:
        """Where MLflow's files lie if its store is a database without a server; None: the server decides."""
        return None if is_served(self.tracking_uri) else self.home / "mlartifacts"

    @classmethod
    def from_environment(cls) -> Settings:
        """Read the variables that the module's docstring lists."""
        trusted = os.environ.get("MODELMILL_TRUSTED_KEYS", "")
        home = Path(os.environ.get("MODELMILL_HOME") or ".modelmill").absolute()
        return cls(
            home=home,
            ledger=os.environ.get("MODELMILL_LEDGER") or str(home / "ledger"),
            deployments=os.environ.get("MODELMILL_DEPLOYMENTS") or str(home / "deployments"),
            spark_remote=os.environ.get("MODELMILL_SPARK_REMOTE") or None,
            python=os.environ.get("MODELMILL_PYTHON") or sys.executable,
            tracking_uri=os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home}/mlflow.db",
            signing_key=os.environ.get("MODELMILL_SIGNING_KEY") or None,
            trusted_keys=tuple(filter(None, map(str.strip, trusted.split(",")))),
            labelling=os.environ.get("MODELMILL_LABELLING", ""),
        )


MODEL_TRAINING = "?workflowType=machine_learning"
"""End of a link into MLflow's UI. Without it the menu is that of language models, without models and runs.

MLflow 3.17 reads this, else what the browser's user has chosen last; an experiment's tag
``mlflow.experimentKind`` it does not read.
"""


def is_served(tracking_uri: str) -> bool:
    """Return whether MLflow is a server, which has pages to show, and not a database that steps open."""
    return tracking_uri.startswith(("http://", "https://"))


def source_places() -> tuple[str, ...]:
    """Return the places below which files may be loaded; empty if the deployment names none."""
    return _listed("MODELMILL_SOURCES")


def table_protocols() -> tuple[str, ...]:
    """Return the protocols that tables may have beside the usual ones, in small letters."""
    return tuple(name.lower() for name in _listed("MODELMILL_STORES") if "://" not in name)


def table_places() -> tuple[str, ...]:
    """Return the URIs below which tables of their stores have to lie; empty if the deployment names none."""
    return tuple(name for name in _listed("MODELMILL_STORES") if "://" in name)


def service_addresses() -> tuple[str, ...]:
    """Return the addresses of services that a pipeline may ask; empty if the deployment names none."""
    return _listed("MODELMILL_SERVICES")


def _listed(name: str) -> tuple[str, ...]:
    return tuple(filter(None, map(str.strip, os.environ.get(name, "").split(","))))


def mlflow_patience() -> tuple[int, int]:
    """Return the seconds that MLflow may take for a reply, and for a call with all its retries.

    :return: both, at least 1.
    :raises ConfigError: if a variable is no whole number of seconds.
    """
    return _seconds("MODELMILL_MLFLOW_REPLY", 30), _seconds("MODELMILL_MLFLOW_CALL", 180)


def _seconds(name: str, default: int) -> int:
    given = os.environ.get(name) or str(default)
    if not given.isdecimal() or int(given) < 1:
        raise ConfigError(f"{name} must be a whole number of seconds, 1 or more", got=given)
    return int(given)


def environment_params() -> dict[str, str]:
    """Return the deployment's defaults for pipeline parameters, by lower-case name."""
    return {
        name[len(PARAM_PREFIX) :].lower(): value
        for name, value in os.environ.items()
        if name.startswith(PARAM_PREFIX)
    }
