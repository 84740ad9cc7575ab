"""Every pipeline file becomes an Airflow DAG. MODELMILL_PIPELINES names another folder, or an fsspec URL."""

import os
from pathlib import Path

from modelmill_operators.loader import load_pipelines

globals().update(load_pipelines(os.environ.get("MODELMILL_PIPELINES") or Path(__file__).parent / "pipelines"))
