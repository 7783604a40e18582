"""The Python face: what `import dr_tfx` offers, that it is light, and that its examples run."""

import doctest
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import dr_tfx
from tests.helpers.drawn import draw, encode

ROOT = Path(__file__).parents[1]
NAMES = {
    "Dataset",
    "Explanation",
    "LoadedExport",
    "NOTICE",
    "PhotographModel",
    "TrainedModel",
    "__version__",
    "build",
    "crossvalidate",
    "ensemble",
    "evaluate",
    "export",
    "load_bundle",
    "load_config",
    "load_dataset",
    "load_export",
    "synthesize",
    "train",
}


def test_the_face_offers_these_names_and_documents_each():
    assert set(dr_tfx.__all__) == NAMES <= set(dir(dr_tfx))
    for name in NAMES - {"NOTICE", "__version__"}:
        assert getattr(dr_tfx, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'fit'"):
        dr_tfx.fit  # noqa: B018 - asking for it is the test.


def test_importing_it_loads_nothing_heavy():
    code = (
        "import sys, dr_tfx; heavy = {'tensorflow', 'keras', 'pandas', 'numpy', 'cv2', 'sklearn'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_its_examples_run(tmp_path, monkeypatch):
    """The examples go from drawn photographs to an explained one."""
    from dr_tfx import api

    monkeypatch.chdir(tmp_path)
    found = doctest.testmod(api, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert found.attempted >= 10 and found.failed == 0

    model = dr_tfx.load_bundle("run")
    eye = tmp_path / "raw" / "10_left.jpeg"
    answers = [model.predict(given) for given in (eye, str(eye), eye.read_bytes())]
    assert answers[0] == answers[1] == answers[2]
    explained = model.explain(eye)
    assert explained.answer["score"] == pytest.approx(answers[0]["score"], abs=1e-6)
    assert explained.heatmap.min() >= 0 and explained.heatmap.max() <= 1
    pixels = draw(3)[..., ::-1]  # RGB.
    told = model.predict(np.ascontiguousarray(pixels))
    assert told == model.predict(encode(draw(3), ".png"))
    with pytest.raises(ValueError, match=r"none\.png is rejected: .*No such file"):
        model.predict("none.png")

    images, targets, weights = next(
        iter(dr_tfx.load_dataset("data").as_tf_dataset("train", batch_size=4))
    )
    assert images.shape == (4, 64, 64, 3) and targets.dtype == np.int64
    assert weights.numpy().tolist() == [1, 1, 1, 1]


def test_a_config_file_and_changes_give_an_experiment():
    changes = {"training.epochs": 2, "model.weights": "none"}
    experiment = dr_tfx.load_config("dr_binary", changes)
    assert experiment == dr_tfx.load_config(ROOT / "configs" / "dr_binary.py", changes)
    assert (experiment.training.epochs, experiment.model.weights) == (2, "none")
    assert dr_tfx.load_config("glaucoma:demo").dataset.name == "drawn photographs"
    with pytest.raises(FileNotFoundError, match=r"nothing\.py does not exist"):
        dr_tfx.load_config("nothing.py")
    with pytest.raises(ValueError, match=r"config\.training has no setting 'epoch'"):
        dr_tfx.load_config({}, {"training.epoch": 2})
