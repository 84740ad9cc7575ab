"""Videos: read in a limited process, measured in time, cut into shots and frames."""
