"""Language models as teachers: asked within a budget, each content once, and held to gold labels."""
