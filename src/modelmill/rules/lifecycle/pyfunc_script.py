"""The "model from code" that MLflow copies into each logged rule set: a name, no pickle.

Executed by MLflow when a model is saved and loaded; never imported.
"""

from mlflow.models import set_model

from modelmill.rules.lifecycle.pyfunc import DecisionModel

set_model(DecisionModel())
