"""A model that marks the optic disc and its cup tells their ratio: in the table and in figures."""

import types

import numpy as np
import pandas as pd
import pytest

from dr_tfx import tasks
from dr_tfx.config import config_files
from dr_tfx.explanation import answering, lesions
from dr_tfx.sources import given
from tests.helpers.configs import FOLDER
from tests.helpers.drawn import encode

SIZE = 64


class BrightnessMarker:
    """Marks what is brighter than 100 as the disc, and what is brighter than 200 as its cup."""

    def __init__(self):
        settings = config_files.load(FOLDER / "lesions.py", "demo")
        settings.dataset.masks = ("OD", "OC")
        settings.dataset.recipe.name, settings.dataset.recipe.size = "plain", SIZE
        settings.dataset.recipe.quality_gate = "off"
        self.experiment = tasks.from_config(settings)
        self.manifest = types.SimpleNamespace(prepared="")

    def mark(self, rgb):
        reading = tasks.Reading(0.0, "", "marked", {"decision": "OD"}, {}, None)
        return [(reading, np.stack([one > 100, one > 200])) for one in rgb[..., 1]]


@pytest.fixture
def eyes(tmp_path):
    """A disc 40 pixels high with a cup of 10, and a photograph without either."""
    eye = np.full((SIZE, SIZE, 3), 40, np.uint8)
    (tmp_path / "none.png").write_bytes(encode(eye, ".png"))
    eye[10:50, 20:50] = 150
    eye[24:34, 30:40] = 250
    (tmp_path / "eye.png").write_bytes(encode(eye, ".png"))
    return [tmp_path / "eye.png", tmp_path / "none.png"]


def test_the_ratio_is_in_the_table_and_on_the_terminal(eyes, tmp_path, capsys):
    marker = BrightnessMarker()
    model = answering.AnsweringModel(
        tmp_path,
        "",
        marker.experiment,
        [],
        lambda: None,  # There is no score but the marks.
        None,
        lambda: lesions.LesionMarker(marker),
    )
    answers = answering.Answering(
        model, tmp_path / "out", is_drawn=True, colormap="viridis", masks=None, made={}
    )
    answers(given.photographs([str(eye) for eye in eyes]))
    answers.files.finish()
    table = pd.read_csv(tmp_path / "out" / "predictions.csv")
    assert table["cup_to_disc"][0] == 0.25 and np.isnan(table["cup_to_disc"][1])
    head, *lines = (line.split() for line in capsys.readouterr().out.splitlines())
    at = head.index("cup_to_disc")
    assert [line[at] for line in lines[:2]] == ["0.250", "-"]


def test_the_ratio_is_in_the_legend_of_what_is_outlined(eyes):
    marker = lesions.LesionMarker(BrightnessMarker())
    found = marker(given.photographs([str(eye) for eye in eyes]))
    legends = [marker.outlined(one).legend for one in found]
    assert legends[0].endswith("   cup_to_disc 0.25") and legends[1] == ""
