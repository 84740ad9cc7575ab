"""MLflow tracking and lineage, the gate, promotion and the ledger."""
