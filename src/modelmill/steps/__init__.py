"""The components: one file for each kind of step."""
