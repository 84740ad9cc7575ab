#!/bin/sh
# Fetch the Spark distribution that the tests marked "jvm" run on, once.
# It goes into a folder of its own: in an environment its files and pyspark-client's would overwrite each other.
set -eu
cd "$(dirname "$0")/.."
python="${1:-.venv/bin/python}"
target=".modelmill/spark"
[ -x "$target/pyspark/bin/spark-submit" ] && exit 0
rm -rf "$target.partial"
"$python" -m pip install --quiet --disable-pip-version-check --no-deps --target "$target.partial" pyspark==4.2.0
rm -rf "$target"
mv "$target.partial" "$target"
