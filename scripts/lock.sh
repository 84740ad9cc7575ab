#!/usr/bin/env bash
# Writes docker/locks: for each image, and for the demo, every package with the hashes of its files.
# Versions are those of constraints.txt, so run it after each change of that file. It needs uv: pip install uv.
set -euo pipefail
cd "$(dirname "$0")/.."
lock() { # lock NAME REQUIREMENTS [EXTRA ...]
    local name=$1 requirements=$2
    shift 2
    uv pip compile --quiet --universal --python-version 3.11 --constraint constraints.txt --generate-hashes \
        --no-header --no-annotate --output-file "docker/locks/$name.txt" "${@/#/--extra=}" "$requirements"
}
rm -f docker/locks/*.txt
lock airflow pyproject.toml airflow celery data kubernetes lineage metrics track
lock steps pyproject.toml steps
lock mlflow docker/mlflow.in
lock spark pyproject.toml data serve
lock demo pyproject.toml all
