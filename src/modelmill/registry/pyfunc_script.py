"""The "model from code" that MLflow copies into each logged model: a name, no pickle.

Executed by MLflow when a model is saved and loaded; never imported.
"""

from mlflow.models import set_model

from modelmill.registry.pyfunc import SignalModel

set_model(SignalModel())
