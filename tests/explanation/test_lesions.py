"""A model that marks the optic disc and its cup tells their ratio: in the table and in figures."""

import numpy as np
import pandas as pd
import pytest

from dr_tfx.explanation import answering, lesions
from dr_tfx.sources import given
from tests.helpers import marking
from tests.helpers.drawn import encode
from tests.helpers.marking import SIZE

# The disc is brighter than 100, its cup than 200.
MARKER = marking.ColourMarker(("OD", "OC"), lambda rgb: (rgb[..., 1] > 100, rgb[..., 1] > 200))


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
    model = answering.AnsweringModel(
        tmp_path,
        "",
        MARKER.experiment,
        [],
        lambda: None,  # There is no score but the marks.
        None,
        lambda: lesions.LesionMarker(MARKER),
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
    marker = lesions.LesionMarker(MARKER)
    found = marker(given.photographs([str(eye) for eye in eyes]))
    legends = [marker.outlined(one).legend for one in found]
    assert legends[0].endswith("   cup_to_disc 0.25") and legends[1] == ""
