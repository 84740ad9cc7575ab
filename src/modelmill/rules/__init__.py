"""Rule sets: their language, evaluation, explanation and life cycle."""
