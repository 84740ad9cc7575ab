"""Whether scored rows are still like those that a model learned from, and its answers still right."""
