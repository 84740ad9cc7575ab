"""The order in which signals are computed: found on a sample, and followed while the data drifts."""
