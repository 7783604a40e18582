"""The state of a run is written whole, restored exactly, and refused where it does not fit."""

import shutil

import keras
import numpy as np
import pytest

from dr_tfx.models import precision
from dr_tfx.training import checkpoints, identity
from tests.dataset.test_manifest import MADE
from tests.helpers import datasets


def tiny(units=2):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(units, "sigmoid")])
    model.compile("adam", "mse", jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    model.set_weights([np.ones_like(w) for w in model.get_weights()])
    return model


def test_a_state_that_does_not_fit_or_is_damaged_says_so(tmp_path):
    experiment = datasets.experiment()
    run = checkpoints.Run(tmp_path, experiment)
    run.step, run.running, run.precision = 2, {"seconds": 1.0}, "float32"
    run.save(tiny())
    again = checkpoints.Run(tmp_path, experiment)
    assert (again.step, again.precision) == (2, "float32")
    with pytest.raises(
        ValueError,
        match=r"kernel \(3, 2\) float32 in the file and kernel \(3, 4\) float32 in the model",
    ):
        again.restore(tiny(units=4))
    folder = tmp_path / "checkpoints" / "last" / "step-00000002"
    whole = (folder / "variables.npz").read_bytes()
    for damaged in (whole[: len(whole) // 2], whole.replace(b"\x80?", b"\x81?"), b""):
        (folder / "variables.npz").write_bytes(damaged)
        with pytest.raises(ValueError, match="step-00000002 cannot be read"):
            again.restore(tiny())
    (folder / "state.json").write_text("{")
    with pytest.raises(ValueError, match="step-00000002 cannot be read"):
        checkpoints.Run(tmp_path, experiment)


def test_a_removal_that_was_killed_leaves_the_newer_state(tmp_path, monkeypatch):
    """The older state's name sorts last, as at a ceiling met before an epoch's first step."""
    experiment = datasets.experiment()
    run = checkpoints.Run(tmp_path, experiment)
    run.step, run.history, run.precision = 6, [{"epoch": 1}], "float32"
    run.save(tiny())
    run.running = {"seconds": 1.0}

    def killed(path, **_):
        if path.exists():
            (path / "state.json").unlink()
            raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        run.save(tiny())
    monkeypatch.undo()
    again = checkpoints.Run(tmp_path, experiment)
    assert (again.step, again.running) == (6, {"seconds": 1.0})
    again.restore(tiny())
    again.step = 7
    again.save(tiny())
    assert [p.name for p in (tmp_path / "checkpoints" / "last").iterdir()] == ["step-00000007"]


def test_scale_of_the_loss_slots_and_learning_rate_come_back(tmp_path):
    experiment = datasets.experiment()
    try:
        precision.set_policy("mixed_float16")
        model, other = tiny(), tiny()
    finally:
        precision.set_policy("float32")
    x = np.full((4, 3), 1e6, np.float32)  # The loss overflows float16, so that its scale is halved.
    model.train_on_batch(x, np.zeros((4, 2)))
    model.train_on_batch(x / 1e6, np.zeros((4, 2)))
    model.optimizer.learning_rate = 0.125
    run = checkpoints.Run(tmp_path, experiment)
    run.step, run.running = 2, {"seconds": 1.0}
    run.save(model)
    other.train_on_batch(x / 1e6, np.zeros((4, 2)))
    checkpoints.Run(tmp_path, experiment).restore(other)
    assert float(np.asarray(other.optimizer.learning_rate)) == 0.125
    for one in (model, other):
        one.train_on_batch(x / 1e6, np.ones((4, 2)))
    states = [[np.asarray(v) for v in checkpoints._variables(m)] for m in (model, other)]
    assert all(np.array_equal(a, b) for a, b in zip(*states, strict=True))
    assert any(np.size(v) == 1 and float(v) == 2.0**14 for v in states[0])


BRACKETS = "[" * 9999


@pytest.mark.parametrize("text", ["", "{", "[1]", "3", "{}", '{"experiment": 3}', BRACKETS, "NaN"])
def test_a_config_json_of_another_program_is_refused_by_name(tmp_path, text):
    path = tmp_path / identity.CONFIG_FILE
    path.write_text(text)
    with pytest.raises(ValueError, match=f"^{path} (is damaged|was not written by drtfx-train)"):
        identity.is_claimed(tmp_path, datasets.experiment(), MADE)
    identity.claim(tmp_path, datasets.experiment(), MADE)
    identity.is_claimed(tmp_path, datasets.experiment(), MADE)
