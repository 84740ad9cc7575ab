"""Documents that people write, in YAML or JSON, with their positions and versions."""
