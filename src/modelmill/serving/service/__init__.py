"""The service that answers signals over HTTP with the champions; only :mod:`.http` knows a web framework."""
