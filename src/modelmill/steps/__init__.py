"""The components: one file for each kind of step, with its configuration, ports, resources and run."""
