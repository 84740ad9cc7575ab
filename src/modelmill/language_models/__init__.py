"""Language models as teachers: within a budget, each content once, held to gold."""
