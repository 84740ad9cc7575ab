"""One request in five ways: are the typed answers the same?

``./run python -m benchmarks.answer_types`` registers a model of a class, one of sets and one of numbers
(static ones with random weights over MiniLM's tokens), and asks each for the same rows: over HTTP from
``modelmill serve`` and ``mlflow models serve``, both real servers on loopback; from ``load_model``; as a
``spark_udf`` and by ``score_table``, both on the embedded engine. The rows have nulls, blank and very long
texts, and characters of many scripts; the forms of the request take turns. An answer is the same if type and
value of ``prediction`` and ``score`` are, to the last bit. The number of differences is the exit status.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
from benchmarks.serving import PATHS, Registry, ask, served
from deltalake import write_deltalake
from demo.samples import prepare

from modelmill.artifacts import ModelRef, TableRef
from modelmill.datasets.options import LabelKind
from modelmill.models.bundle import BundleInfo
from modelmill.models.predictions import is_text
from modelmill.models.static import Table, write_static
from modelmill.registry.bundles import log_model
from modelmill.serving.scoring import ScoreTableRequest, score_table
from modelmill.settings import Settings
from modelmill.spark import session
from modelmill.tables.reading import read_arrow
from modelmill.tokens.tokenizer import load_tokenizer

KINDS: tuple[LabelKind, ...] = ("class", "classes", "number")
CLASSES = ("a", "é", '"quoted", b', "漢字", "NaN")
"""Some that a format could take for something else."""
ODD = (
    None,
    "",
    "  ",
    "\u200b",
    "\u00a0\t\n",
    "null",
    "NaN",
    "<NA>",
    "[]",
    '{"a": 1}',
    "\0",
    "a\0b",
    "grain\0",
    "é",
    "e\u0301",
)
SCRIPTS = (
    "漢字かな交じり文",
    "ข้อความภาษาไทย",
    "نص عربي",
    "עברית",
    "😀👩‍👩‍👧",
    "Ελληνικά",
    "кириллица",
    "\ufeffBOM",
    "\u202ertl",
)
WORDS = ("market", "said", "bank", "shares", "profit", "loss", "trade", "oil", "grain", "ship", "1.5", "§")
LONG = 100_000
"""Characters of the longest texts."""
REQUEST_ROWS = 100

Answer = tuple[str, str, str]
"""Type of the prediction, the prediction and the score."""


def some_texts(count: int) -> list[str | None]:
    """Return texts: a tenth is odd, some are very long."""
    random = np.random.default_rng(0)
    texts: list[str | None] = []
    for row in range(count):
        words = [str(word) for word in random.choice([*WORDS, *SCRIPTS], int(random.integers(1, 30)))]
        texts.append(" ".join(words))
        if row % 10 == 3:
            texts[-1] = ODD[row // 10 % len(ODD)]
        elif row % 200 == 7:
            texts[-1] = " ".join(words * (LONG // len(" ".join(words)) + 1))[:LONG]
    return texts


def make_model(registry: Registry, kind: LabelKind) -> tuple[ModelRef, Path]:
    """Log and register a model with random weights, named after its kind."""
    tokenizer = load_tokenizer(registry.base, max_tokens=128)
    size, random = tokenizer.get_vocab_size(), np.random.default_rng(1)
    classes = () if kind == "number" else CLASSES
    outputs = len(classes) or 1
    table = Table(
        random.uniform(1, 9, size).astype(np.float32), random.normal(size=(size, outputs)).astype(np.float32)
    )
    folder = registry.place / f"bundle-{kind}"
    folder.mkdir()
    shutil.copyfile(registry.base / "tokenizer.json", folder / "tokenizer.json")
    bias = np.zeros(outputs, np.float32)
    write_static(folder, [table], bias, label=kind, classes=classes, text="body", max_tokens=128, target=kind)
    model = log_model(folder, role="exported", dataset=registry.dataset(), context=registry.context)
    registry.move(kind, registry.register(kind, model))
    return model, folder


def forms(texts: Sequence[str | None]) -> Iterator[dict[str, Any]]:
    """Yield requests in the forms that both servers take, in turns."""
    for number, start in enumerate(range(0, len(texts), REQUEST_ROWS)):
        some = list(texts[start : start + REQUEST_ROWS])
        yield (
            {"dataframe_records": [{"body": text, "id": place} for place, text in enumerate(some)]},
            {"dataframe_split": {"columns": ["id", "body"], "data": [[1, text] for text in some]}},
            {"inputs": some},
            {"instances": [{"text": text} for text in some]},
            {"inputs": {"body": some}},
        )[number % 5]


def over_http(server: str, command: Sequence[str], ready: str, name: str, place: Path) -> Callable[..., Any]:
    """Return what asks a server that is started for it."""

    def asked(texts: Sequence[str | None]) -> list[dict[str, Any]]:
        bodies = (json.dumps(one).encode() for one in forms(texts))
        found: list[dict[str, Any]] = []
        with served(command, ready=ready, log=place / f"{server}-{name}.log") as (port, _):
            for one in ask(port, PATHS[server], bodies):
                if one.status != 200:
                    raise SystemExit(f"{server}: {one.status} {str(one.answer)[:500]}")
                rows = one.answer["predictions"] if server == "mlflow" else one.answer["rows"]
                found += rows if server == "mlflow" else [row[name] for row in rows]
        return found

    return asked


def by_table(model: ModelRef, bundle: Path, place: Path) -> Callable[..., Any]:
    """Return what has ``score_table`` write the answers."""

    def asked(texts: Sequence[str | None]) -> list[dict[str, Any]]:
        info = BundleInfo.load(bundle)
        source = place / f"in-{info.target}"
        rows = {"id": pa.array(range(len(texts))), "body": pa.array(texts, pa.string())}
        write_deltalake(str(source), pa.table(rows))
        request = ScoreTableRequest(
            table=TableRef(uri=str(source), version=0),
            model=model,
            bundle=str(bundle),
            text="body",
            answer_type=info.task.answer_type,
            to=str(place / f"out-{info.target}"),
            transaction="0",
        )
        return list(read_arrow(score_table(request).table).sort_by("id").to_pylist())

    return asked


def by_spark(model: ModelRef) -> Callable[..., Any]:
    """Return what asks the model as a function of Spark."""

    def asked(texts: Sequence[str | None]) -> list[dict[str, Any]]:
        with session() as spark:
            function = mlflow.pyfunc.spark_udf(spark, model.uri, env_manager="local")
            rows = spark.createDataFrame(list(enumerate(texts)), "id long, body string")
            found = rows.select("id", function("body").alias("answer")).orderBy("id").collect()
        return [row["answer"].asDict() for row in found]

    return asked


def by_pyfunc(model: ModelRef) -> Callable[..., Any]:
    """Return what asks the loaded model."""

    def asked(texts: Sequence[str | None]) -> list[dict[str, Any]]:
        frame = mlflow.pyfunc.load_model(model.uri).predict(pd.DataFrame({"body": texts}))
        return [
            {"prediction": answer, "score": score}
            for answer, score in zip(frame["prediction"].tolist(), frame["score"].tolist(), strict=True)
        ]

    return asked


def typed(row: dict[str, Any]) -> Answer:
    """Return an answer in a form in which only the same is equal."""
    prediction = row["prediction"]
    if isinstance(prediction, list):
        name = "list of " + ", ".join(sorted({type(one).__name__ for one in prediction}))
    else:
        name = type(prediction).__name__
    return name, repr(prediction), repr(row["score"])


def compare(kind: LabelKind, ways: dict[str, Callable[..., Any]], texts: Sequence[str | None]) -> int:
    """Ask in every way, print what differs from the first, and return how many answers do."""
    found: dict[str, list[Answer]] = {}
    differences = 0
    for name, way in ways.items():
        found[name] = list(map(typed, way(texts)))
        reference = next(iter(found.values()))
        other = [row for row, one in enumerate(found[name]) if one != reference[row]]
        missing = len(texts) - len(found[name])
        differences += len(other) + abs(missing)
        types = dict(Counter(one[0] for one in found[name]))
        print(f"| {kind} | {name} | {len(found[name])} | {types} | {len(other)} |", flush=True)
        for row in other[:5]:
            print(f"  row {row}, {str(texts[row])[:40]!r}: {found[name][row]}, not {reference[row]}")
    return differences


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000)
    parser.add_argument("--kind", choices=KINDS, action="append")
    options = parser.parse_args()
    _, base = prepare(Settings.from_environment().home)
    texts, differences = some_texts(options.rows), 0
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        os.environ |= {
            "MODELMILL_HOME": str(place / "home"),
            "MLFLOW_TRACKING_URI": f"sqlite:///{place}/mlflow.db",
        }
        registry = Registry(place, base)
        blank = sum(not is_text(text) for text in texts)
        print(
            f"{len(texts):,} rows, {blank} null or blank, the longest of {max(len(t or '') for t in texts):,}"
        )
        print("| label | way | answers | types | different |\n| --- | --- | --- | --- | --- |")
        for kind in options.kind or KINDS:
            model, bundle = make_model(registry, kind)
            ours = ["modelmill", "serve", "--model", kind, "--option", "body_bytes=50000000"]
            theirs = ["mlflow", "models", "serve", "-m", f"models:/{kind}@champion"]
            theirs += ["--env-manager", "local", "-w", "1", "-h", "127.0.0.1"]
            ways = {
                "score_table": by_table(model, bundle, place),
                "pyfunc": by_pyfunc(model),
                "spark_udf": by_spark(model),
                "modelmill serve": over_http("modelmill", ours, "/readyz", kind, place),
                "mlflow models serve": over_http("mlflow", theirs, "/ping", kind, place),
            }
            differences += compare(kind, ways, texts)
    print(f"{differences} differences")
    sys.exit(min(differences, 100))


if __name__ == "__main__":
    main()
