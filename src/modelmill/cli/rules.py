"""The command line of rule sets: ``modelmill rules validate``, ``decide`` and ``explain``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelmill.errors import ConfigError, RuleSetError

if TYPE_CHECKING:
    import pyarrow as pa

    from modelmill.artifacts import TableRef
    from modelmill.rules.engine import Engine

app = typer.Typer(help="Rule sets: signals, rules over them, and decisions.", no_args_is_help=True)

RuleSetArgument = Annotated[str, typer.Argument(help="Path or fsspec URL of a rule set (YAML or JSON).")]
TableOption = Annotated[
    str | None, typer.Option("--table", help="Delta table to decide on; empty: the rule set's input.")
]


@app.command()
def validate(rule_sets: Annotated[list[str], typer.Argument(help="Paths or URLs of rule sets.")]) -> None:
    """Check rule sets, try their examples, and list every problem with its position."""
    from modelmill.rules.examples import load_tried_rule_set

    failed = False
    for url in rule_sets:
        try:
            found = load_tried_rule_set(url)
            counts = f"{len(found.signals)} signals, {len(found.rules)} rules, {len(found.examples)} examples"
            typer.echo(f"{url}: rule set {found.rule_set}, {counts}, {found.digest[:12]}, valid")
        except RuleSetError as error:
            failed = True
            for problem in error.problems:
                typer.echo(f"{url}:{problem}\n{problem.excerpt}".rstrip(), err=True)
    raise typer.Exit(ConfigError("").exit_status if failed else 0)


@app.command()
def decide(
    rule_set: RuleSetArgument,
    table: TableOption = None,
    to: Annotated[Path | None, typer.Option(help="Parquet file for the decisions.")] = None,
    explain: Annotated[bool, typer.Option(help="Write an explanation of each decision too.")] = False,
) -> None:
    """Decide on every row of a table: print the plan, what it cost, and how often each rule decided."""
    from collections import Counter

    import pyarrow as pa
    import pyarrow.parquet as pq

    from modelmill.rules.lifecycle.table_decisions import check_table_keys
    from modelmill.rules.lifecycle.table_sample import sample_table
    from modelmill.rules.planning.cost_measurement import SAMPLE_ROWS

    engine, source, batches = _opened(rule_set, table)
    check_table_keys(source, key=engine.rule_set.key)
    engine.use(engine.measure_plan(sample_table(source, rows=SAMPLE_ROWS, columns=engine.all_columns)))
    counts: Counter[tuple[str, str | None, str]] = Counter()
    parts: list[pa.RecordBatch] = []
    for batch in batches:
        found = engine.decide(batch, explain=explain)
        told = (found.column(name).to_pylist() for name in ("decision", "rule", "because"))
        counts.update(zip(*told, strict=True))
        parts += [found] if to else []
    for plan, statistics in [*engine.planning.history, (engine.plan, engine.statistics)]:
        typer.echo("\n".join([*plan.lines(), *statistics.lines(plan)]))
    for (decision, rule, because), count in counts.most_common():
        how = (
            f", since rule {rule} is unknown" if because == "unknown" else f" by rule {rule}" if rule else ""
        )
        typer.echo(f"{count:>12,} {decision}{how}")
    for signal, (count, why) in sorted(engine.failures.items()):
        typer.echo(f"{count:>12,} rows on which {signal} could not be computed, the first: {why}")
    if to:
        pq.write_table(pa.Table.from_batches(parts, engine.decision_schema(explain=explain)), to)


@app.command()
def explain(
    rule_set: RuleSetArgument,
    key: Annotated[str, typer.Argument(help="Key of the row.")],
    table: TableOption = None,
    as_html: Annotated[bool, typer.Option("--html", help="Print HTML.")] = False,
) -> None:
    """Explain the decision on one row of a table."""
    from modelmill.rules.explanation.rendering import explanation_html, explanation_text

    engine, _, batches = _opened(rule_set, table)
    for batch in batches:
        keys = [str(value) for value in batch.column(engine.rule_set.key).to_pylist()]
        if key in keys:
            (row,) = engine.decide(batch.slice(keys.index(key), 1), explain=True).to_pylist()
            typer.echo(explanation_html(row) if as_html else explanation_text(row))
            return
    raise ConfigError("the key must be in the table", got=key, remedy=f"see its column {engine.rule_set.key}")


def _opened(url: str, table: str | None) -> tuple[Engine, TableRef, Iterator[pa.RecordBatch]]:
    """Return the engine of a rule set, and the table and the rows that it decides on."""
    from modelmill.rules.engine import MAX_CHUNK_ROWS, Engine
    from modelmill.rules.reading import load_rule_set
    from modelmill.tables.opening import table_schema
    from modelmill.tables.reading import scan_arrow
    from modelmill.tables.versions import resolve_table

    named = table or load_rule_set(url).input
    if named is None:
        raise ConfigError("a rule set decides on a table", remedy="name one with --table, or under input")
    ref = resolve_table(named)
    schema = table_schema(ref)
    engine = Engine(load_rule_set(url, schema=schema), schema)
    batches = scan_arrow(ref, columns=engine.all_columns, batch_rows=MAX_CHUNK_ROWS)
    return engine, ref, batches
