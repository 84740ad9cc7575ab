"""A night with 1 % new rows beside a rebuild, both as Airflow starts them.

    python -m benchmarks.new_rows --rows 200000 --rounds 3

A real Airflow (LocalExecutor, SQLite) runs a pipeline of two steps, a table and its dataset, beside a real
MLflow server. In each round 1 % new rows, 5 % of them nearly copies of old ones, are appended; then the
dataset of the last round is brought up to date, and another one is built from nothing. Their content hashes
have to be equal. ``task`` is the CPU of the dataset's task alone: its worker's process and the forked step.
``all`` is that of all processes of Airflow and MLflow until the run has ended. The first run, which starts
the process that forks steps, is not counted.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from benchmarks.dataset_builds import Texts, planted_rows
from benchmarks.factory import SERVERS, airflow_of, cpu_by_server, night
from benchmarks.night import DAG_FILE, cpu_of_step_servers

if TYPE_CHECKING:
    from demo.servers.airflow_client import AirflowClient

PIPELINE = """
pipeline: new_rows
params:
  to: {{default: "{folder}/kept"}}
steps:
  raw: {{component: delta_table, config: {{uri: "{folder}/rows"}}}}
  dataset:
    component: build_dataset
    inputs: {{table: raw.table}}
    config: {{key: id, text: text, labels: [topic], to: "${{to}}"}}
"""


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    from demo.servers import LocalMlflow

    with tempfile.TemporaryDirectory(prefix="modelmill-new-rows-") as place:
        folder = Path(place)
        for name in ("dags", "pipelines"):
            (folder / name).mkdir()
        (folder / "dags" / "pipelines.py").write_text(DAG_FILE)
        (folder / "pipelines" / "new_rows.yaml").write_text(PIPELINE.format(folder=folder))
        os.environ |= {
            "MODELMILL_HOME": str(folder / "home"),
            "MODELMILL_PIPELINES": str(folder / "pipelines"),
        }
        with LocalMlflow(folder / "mlflow") as mlflow:
            os.environ["MLFLOW_TRACKING_URI"] = mlflow.url
            airflow = airflow_of(folder, folder / "dags", plain=False)
            with airflow, closing(airflow.client()) as client:
                airflow.warm_up(timeout=60)
                client.wait_for_dag("new_rows")
                client.unpause("new_rows")
                rounds(folder, client, options.rows, options.rounds)


def rounds(folder: Path, client: AirflowClient, rows: int, times: int) -> None:
    """Append rows, bring one dataset up to date, and build another one; print what both took."""
    import pyarrow as pa
    from deltalake import DeltaTable, write_deltalake

    texts, source, count = Texts(60, evenly=True), str(folder / "rows"), rows // 100
    first, _ = planted_rows(texts, rows)
    write_deltalake(source, first, configuration={"delta.enableChangeDataFeed": "true"})
    run(client, folder / "kept")
    found: dict[str, list[tuple[float, float]]] = {"built": [], "kept": []}
    for turn in range(times):
        olds = first.column("text").take(texts.random.permutation(rows)[: count // 20]).to_pylist()
        new = [" ".join(text) for text in texts.fresh(count - len(olds))]
        new += [" ".join(texts.near(np.array(text.split(" "), object))) for text in olds]
        keys = [f"{rows + turn * count + place:07d}" for place in range(count)]
        topics = [f"topic {number}" for number in texts.random.integers(0, 20, count)]
        write_deltalake(source, pa.table({"id": keys, "text": new, "topic": topics}), mode="append")
        for name in ("kept", "built") if turn % 2 else ("built", "kept"):
            found[name].append(run(client, folder / (name if name == "kept" else f"built_{turn}")))
        kept, built = (
            DeltaTable(str(folder / name))
            .to_pyarrow_table()
            .sort_by("example_key")
            .select(["example_key", "split"])
            for name in ("kept", f"built_{turn}")
        )
        if not kept.equals(built):
            raise SystemExit("both ways must make the same dataset")
    print(f"{rows:,} rows, {count:,} new ones a night; medians of {times} rounds\n")
    print("| CPU seconds | rebuild | a night with 1 % new rows | ratio |\n| --- | --- | --- | --- |")
    for place, name in enumerate(("the dataset's task", "all of Airflow and MLflow")):
        slow, fast = ([one[place] for one in found[way]] for way in ("built", "kept"))
        ratio = statistics.median(slow) / statistics.median(fast)
        told = [" ".join(f"{one:.2f}" for one in way) for way in (slow, fast)]
        print(f"| {name} | {told[0]} | {told[1]} | {ratio:.1f} |")


def run(client: AirflowClient, to: Path) -> tuple[float, float]:
    """Run the pipeline; return the CPU seconds of its steps' tasks, and of everything."""
    before, forked = cpu_by_server(), cpu_of_step_servers()
    how, _ = night(client, "new_rows", 2, to=str(to))
    if how != "2 success":
        latest = client.call("GET", "/dags/new_rows/dagRuns", params={"order_by": "-run_after", "limit": 1})
        log = client.log("new_rows", latest["dag_runs"][0]["dag_run_id"], "dataset")
        raise SystemExit(f"the run has not succeeded: {how}\n{log}")
    used = cpu_by_server()
    used.subtract(before)
    steps = sum(seconds - forked[pid] for pid, seconds in cpu_of_step_servers().items())
    task = used["workers"] + steps
    return task, task + sum(used[name] for name in SERVERS)


if __name__ == "__main__":
    main()
