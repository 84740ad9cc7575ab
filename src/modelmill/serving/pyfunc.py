"""The former name of :mod:`modelmill.registry.pyfunc`: models that were logged under it stay loadable."""

from modelmill.registry.pyfunc import SignalModel

__all__ = ["SignalModel"]
