"""MLflow and Weights & Biases: what TensorBoard is given of a run, and its settings.

Where they keep it is theirs to say, by their own settings such as MLFLOW_TRACKING_URI and
WANDB_MODE. Nothing else leaves: no photograph, no weights, no code and no state of a repository. A
run that goes on after an interruption, or to more epochs, is the same one to them, by its number in
WORKDIR/tracking.json. Each package is an extra, and imported where it is asked for.
"""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
from absl import logging

from dr_tfx.config import specs, typed
from dr_tfx.storage import files, json_files

TRACKERS = ("mlflow", "wandb")
FILE = "tracking.json"
_CHANGING = ("training.epochs", "training.stages")  # What more epochs change in a run's settings.
_LONGEST = 500  # Characters of a setting that every MLflow takes.
_AT_ONCE = 100  # Settings in one call of MLflow.


def make(name: str, workdir: Path, experiment: specs.Experiment) -> keras.callbacks.Callback:
    """Return the callback that tells a tracker of a run.

    Raises:
      ValueError: the tracker is unknown, or its package is not installed.
    """
    kinds = {"mlflow": _MLflow, "wandb": _WeightsAndBiases}
    if name not in kinds:
        raise ValueError(f"the tracker is {name!r}; expected one of {', '.join(TRACKERS)}")
    try:
        return kinds[name](workdir, experiment)
    except ImportError as error:
        raise ValueError(
            f"{name} cannot be imported: {error}. Install it: pip install 'dr_tfx[{name}]'"
        ) from error


class Tracker(keras.callbacks.Callback):
    """A callback that tells a tracker. A failure at its start ends the run, no later one does."""

    name = ""
    NEEDED = ""  # What a person looks at if it does not begin.

    def __init__(self, workdir: Path, experiment: specs.Experiment):
        super().__init__()
        self._workdir, self._task = workdir, experiment.task.name
        self._settings = {key: str(value) for key, value in _flat(experiment).items()}
        self._waiting: list[dict[str, float]] = []

    def on_train_begin(self, logs: Mapping[str, float] | None = None) -> None:
        path = self._workdir / FILE
        known = json_files.read(path) if path.is_file() else {}
        try:
            number = self.open_run(known.get(self.name))
        except Exception as error:  # Each client has classes of errors of its own.
            raise ValueError(
                f"{self.name} cannot begin a run: {_in_a_line(error)}. {self.NEEDED}"
            ) from error
        if known.get(self.name) != number:
            known[self.name] = number
            files.write_text(path, json.dumps(known, indent=2, sort_keys=True) + "\n")
        logging.info("%s: %s", self.name, self.where())

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        self._waiting.append(dict(logs or {}))
        try:
            while self._waiting:
                self.send(self._waiting[0], int(self._waiting[0]["epoch"]))
                self._waiting.pop(0)
        except Exception as error:  # A server that is away raises what its client raises.
            logging.warning(
                "%s took no figures of epoch %d, and is given them after the next one: %s",
                self.name,
                epoch + 1,
                _in_a_line(error),
            )

    def on_train_end(self, logs: Mapping[str, float] | None = None) -> None:
        self.close()

    def open_run(self, number: Any) -> str:
        """Begin a run, or go on with that of a number, and return its number."""
        raise NotImplementedError

    def where(self) -> str:
        """Return where a person finds the run."""
        raise NotImplementedError

    def send(self, row: Mapping[str, float], epoch: int) -> None:
        """Tell the figures of an epoch, numbered from 1 on."""
        raise NotImplementedError

    def close(self) -> None:
        """End the run."""
        raise NotImplementedError


class _MLflow(Tracker):
    name = "mlflow"
    NEEDED = "Is there a server at MLFLOW_TRACKING_URI?"

    def __init__(self, workdir: Path, experiment: specs.Experiment):
        # By itself it would try for four minutes, at every epoch that a server is away.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        import mlflow

        super().__init__(workdir, experiment)
        self._client, self._number = mlflow.MlflowClient(), ""
        self._entities = mlflow.entities

    def open_run(self, number: Any) -> str:
        client, kinds = self._client, self._entities
        if number is None:
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME", self._task)
            found = client.get_experiment_by_name(name)
            group = found.experiment_id if found else client.create_experiment(name)
            number = client.create_run(group, run_name=self._workdir.name).info.run_id
            fixed = [
                kinds.Param(key, value[:_LONGEST])
                for key, value in self._settings.items()
                if key not in _CHANGING
            ]
            for first in range(0, len(fixed), _AT_ONCE):
                client.log_batch(number, params=fixed[first : first + _AT_ONCE])
        else:
            client.update_run(number, status="RUNNING")
        for key in _CHANGING:
            client.set_tag(number, key, self._settings[key])
        self._number = str(number)
        return self._number

    def where(self) -> str:
        return f"run {self._number} at {self._client.tracking_uri}"

    def send(self, row: Mapping[str, float], epoch: int) -> None:
        now = int(1000 * time.time())
        metric = self._entities.Metric
        figures = [metric(k, float(v), now, epoch) for k, v in row.items() if k != "epoch"]
        self._client.log_batch(self._number, metrics=figures)

    def close(self) -> None:
        self._client.set_terminated(self._number)


class _WeightsAndBiases(Tracker):
    name = "wandb"
    NEEDED = "Without a network, set WANDB_MODE=offline"

    def __init__(self, workdir: Path, experiment: specs.Experiment):
        import wandb

        super().__init__(workdir, experiment)
        self._wandb = wandb
        self._run: Any = None

    def open_run(self, number: Any) -> str:
        # It would send the state of the repository, the code and what is printed.
        quiet = self._wandb.Settings(disable_git=True, disable_code=True, console="off")
        self._run = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT", self._task),
            name=self._workdir.name,
            id=number,
            resume="allow",
            config=self._settings,
            settings=quiet,
        )
        return str(self._run.id)

    def where(self) -> str:
        return f"run {self._run.id}, {self._run.url or self._run.dir}"

    def send(self, row: Mapping[str, float], epoch: int) -> None:
        self._run.log({k: v for k, v in row.items() if k != "epoch"}, step=epoch)

    def close(self) -> None:
        self._run.finish()


def _in_a_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _flat(experiment: specs.Experiment) -> dict[str, Any]:
    return typed.flat(typed.to_dict(experiment))
