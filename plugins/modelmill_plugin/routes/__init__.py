"""The routes, one module for each noun."""

from __future__ import annotations

from modelmill_plugin.routes import (
    answers,
    catalogue,
    decisions,
    forecasts,
    home,
    labelling,
    models,
    nights,
    pipelines,
    results,
    rule_set_files,
    rule_sets,
    run_logs,
    runs,
    samples,
    tables,
    templates,
    verdicts,
    versions,
    wrong_rows,
)

ROUTERS = tuple(
    module.router
    for module in (
        catalogue,
        pipelines,
        versions,
        templates,
        tables,
        runs,
        forecasts,
        run_logs,
        results,
        models,
        answers,
        nights,
        verdicts,
        rule_sets,
        rule_set_files,
        decisions,
        labelling,
        wrong_rows,
        home,
        samples,
    )
)
