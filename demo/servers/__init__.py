"""A real Airflow and a real MLflow on this machine's loopback, for demonstrations and tests.

::

    from demo.servers import LocalAirflow, LocalMlflow

    with LocalMlflow(home / "mlflow") as mlflow:
        with LocalAirflow(home / "airflow", dags, environment={"MLFLOW_TRACKING_URI": mlflow.url}) as airflow:
            client = airflow.client()
            client.wait_for_dag("reuters_nightly")
            client.unpause("reuters_nightly")
            run_id = client.trigger("reuters_nightly", {"data": "/data"})
            state = client.wait("reuters_nightly", run_id, on_change=print)
            print(airflow.url, airflow.user, airflow.password, mlflow.url)

``start()``, ``wait_ready()`` and ``stop()`` do the same without ``with``. Data, logs and secrets stay below
``home`` and are used again the next time. Leaving the block ends every process that was started, and all
that those started; so does the death of this process, whatever kills it.
"""

from demo.servers.airflow_client import AirflowClient
from demo.servers.airflow_server import LocalAirflow
from demo.servers.llama_server import LocalLlama
from demo.servers.mlflow_server import LocalMlflow
from demo.servers.object_store import LocalObjectStore
from demo.servers.postgres_server import LocalPostgres
from demo.servers.processes import ServerError
from demo.servers.redis_server import LocalRedis
from demo.servers.spark_cluster import LocalSpark
from demo.servers.topology import Topology
from demo.servers.transformers_server import LocalTransformers

__all__ = [
    "AirflowClient",
    "LocalAirflow",
    "LocalLlama",
    "LocalMlflow",
    "LocalObjectStore",
    "LocalPostgres",
    "LocalRedis",
    "LocalSpark",
    "LocalTransformers",
    "ServerError",
    "Topology",
]
