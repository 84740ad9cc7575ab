"""MLflow: runs, bundles in and out, the gate, promotion, the ledger."""
