"""Save the model where the server finds it: `save.py FOLDER`."""

import sys
from pathlib import Path

import mlflow

mlflow.pyfunc.save_model(
    sys.argv[1], python_model=str(Path(__file__).with_name("model.py")), pip_requirements=["mlflow"]
)
