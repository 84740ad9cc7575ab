"""The search for a model that keeps a budget: candidates, their training, measurement and choice."""
