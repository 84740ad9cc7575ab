"""Why a row has its decision, and what would have changed it."""
