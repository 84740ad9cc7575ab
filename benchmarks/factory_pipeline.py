"""The pipeline of ``benchmarks/factory.py``: a head on one trunk for each signal, with little to learn."""

from __future__ import annotations

import json
from pathlib import Path

STEPS = 6
PIPELINE = """
pipeline: {name}
groups:
  each:
    steps: [table, dataset, heads, picked, verdict, champion]
    for_each: {{signal: {values}}}
steps:
  trunk: {{component: trunk, config: {{base_model: "{folder}/base", max_tokens: 16}}}}
  table: {{component: delta_table, config: {{uri: "{folder}/tables/${{signal}}"}}}}
  dataset:
    component: build_dataset
    inputs: {{table: table.table}}
    config: {{key: id, text: text, labels: [label], near_duplicates: null}}
  heads:
    component: train_heads
    inputs: {{dataset: dataset.dataset, trunk: trunk.trunk}}
    config: {{epochs: 5, prefix: "${{signal}}_"}}
  picked: {{component: pick_signal, inputs: {{signals: heads.signals}}, config: {{signal: label}}}}
  verdict:
    component: gate
    inputs: {{dataset: dataset.dataset, challenger: picked.model}}
    config:  # what heads on a trunk with random weights learn does not matter here
      name: "${{signal}}"
      max_below_baseline: 0.99
      beat_majority: false
      min_recall: null
      max_calibration_error: null
  champion: {{component: promote, inputs: {{verdict: verdict.verdict}}}}
"""
WORDS = ("goal", "match", "team", "score", "bank", "share", "price", "profit", "the", "of", "today", "new")
ROWS = 120


def pipeline_text(name: str, signals: int, folder: Path) -> str:
    """Return the pipeline: a trunk, and for each signal a table, a head, a gate and a promotion."""
    values = json.dumps([f"s{number:03d}" for number in range(signals)])
    return PIPELINE.format(name=name, values=values, folder=folder)


def write_rows(folder: Path, signal: int, *, first: int = 0) -> None:
    """Append rows to a signal's table: whether a text has the signal's word."""
    from random import Random

    import pyarrow as pa
    from deltalake import write_deltalake

    random, word = Random(1000 * signal + first), WORDS[signal % 8]
    texts = [" ".join(random.choices(WORDS, k=random.randint(4, 12))) for _ in range(ROWS)]
    rows = [
        {"id": str(first + n), "text": text, "label": "yes" if word in text.split() else "no"}
        for n, text in enumerate(texts)
    ]
    write_deltalake(f"{folder}/tables/s{signal:03d}", pa.Table.from_pylist(rows), mode="append")


def write_base_model(folder: Path) -> None:
    """Write a BERT of 2 layers and 32 features with random weights."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    BertModel(
        BertConfig(vocab_size=len(words), hidden_size=32, max_position_embeddings=64, **sizes)
    ).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
