"""The model as code, which MLflow saves and serves."""

import mlflow
import numpy as np
from mlflow.models import set_model


class Model(mlflow.pyfunc.PythonModel):
    """Tensors in, probabilities out."""

    def load_context(self, context) -> None:
        """Load the network."""
        from net import digits

        self.network = digits()

    def predict(self, context, model_input, params=None):
        """Answer a batch."""
        return self.network.probabilities(np.asarray(model_input))


set_model(Model())
