"""A rule set on its way: deciding on tables, backtests, the registry, the gate."""
