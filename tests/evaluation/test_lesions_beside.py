"""Lesions that another model marks in the photographs of a report: on the page and in a table."""

import re

import cv2
import numpy as np
import pandas as pd
import pytest

from dr_tfx.evaluation import evaluate, gallery, lesions_beside
from dr_tfx.explanation import lesions
from dr_tfx.sources import given
from tests.helpers import marking, screening
from tests.helpers.drawn import encode
from tests.helpers.marking import SIZE


def red_and_yellow(rgb):
    """Return what is red and what is yellow in a picture."""
    red, green = rgb[..., 0] > 200, rgb[..., 1] > 200
    return red & ~green, red & green


MARKER = marking.ColourMarker(("HE", "EX"), red_and_yellow)


@pytest.fixture
def beside(tmp_path):
    """Photographs of three ids: two haemorrhages and an exudate, nothing, and a torn file."""
    folder = tmp_path / "raw"
    folder.mkdir()
    eye = np.full((SIZE, SIZE, 3), 40, np.uint8)
    (folder / "none.png").write_bytes(encode(eye[..., ::-1], ".png"))
    eye[4:12, 4:12] = 250, 40, 40  # Upper left.
    eye[40:44, 50:60] = 250, 40, 40  # Lower right.
    eye[40:60, 2:4] = 250, 250, 40  # Lower left.
    (folder / "eye.png").write_bytes(encode(eye[..., ::-1], ".png"))
    (folder / "torn.png").write_bytes(encode(eye[..., ::-1], ".png")[:90])
    found = {one.name.split(".")[0]: one for one in given.photographs([str(folder)])}
    marker = lesions.LesionMarker(MARKER)
    return lesions_beside.LesionsBeside(marker, found, str(folder), ["--lesions=L"])


def test_marks_are_counted_in_whole_and_in_quadrants(beside):
    found = beside(["eye", "missing", "none", "torn"])
    assert sorted(found) == ["eye", "none"]
    red, yellow = found["eye"].kinds
    pixels = SIZE * SIZE
    assert (red.name, yellow.name) == ("HE", "EX")
    assert red.places == [
        (2, pytest.approx(104 / pixels)),
        (1, 64 / pixels),
        (0, 0),
        (0, 0),
        (1, pytest.approx(40 / pixels)),
    ]
    assert [count for count, _ in yellow.places] == [1, 0, 0, 1, 0]
    assert found["eye"].legend == "HE orange, EX sky blue" and found["none"].legend == ""
    drawn = cv2.imdecode(np.frombuffer(found["eye"].jpeg, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert drawn.shape == (400, 400, 3)
    # The outline of the mark in the upper left is orange, and around the middle there is none.
    edge = drawn[24:28, 40:60].reshape(-1, 3).max(axis=0).astype(int)
    assert edge[0] > 150 and edge[0] > edge[2] + 60
    assert np.ptp(drawn[180:220, 180:220].astype(int)) < 12


def test_page_and_table_show_them(beside, tmp_path):
    judged = screening.scored(screening.predictions(), workdir=tmp_path)
    summary = evaluate.metrics_of(judged)
    first, second = (row["id"] for row in summary["most_wrong"][:2])
    shown = beside(["eye"])["eye"]
    images = [
        gallery.GalleryImage(first, b"a", b"b", 8, lesions=shown),
        gallery.GalleryImage(second, b"a", b"b", 8),
    ]
    page = evaluate.write(judged, summary, images)
    html = page.read_text()
    assert html.count(shown.uri) == 1 and html.count('class="pair three"') == 1
    assert "HE 2 (2.54" in html and "EX 1 (0.98" in html
    quadrants = html[html.index(f"Lesions of {first} in each quadrant") :].partition("</table>")[0]
    assert re.findall(r'class="n">(\d+)<', quadrants) == ["1", "0", "0", "1", "0", "0", "1", "0"]
    assert "another model marks" in html
    table = pd.read_csv(page.parent / "lesions.csv", dtype={"id": str})
    assert table["id"].tolist() == [first]
    assert table["count_HE"][0] == 2 and table["area_EX_lower_left"][0] == 40 / SIZE**2
    html = evaluate.write(judged, summary, images[1:]).read_text()
    assert "another model marks" not in html and not (page.parent / "lesions.csv").exists()


def test_photographs_of_another_data_set_are_refused(beside):
    beside.check(["eye", "other"])
    with pytest.raises(ValueError, match=r"raw holds none of the 2 photographs .*such as a\."):
        beside.check(["a", "b"])


def test_a_model_that_gives_maps_itself_has_none_beside_it():
    with pytest.raises(ValueError, match="lesions gives maps itself"):
        evaluate.check_beside(screening.bundle(MARKER.experiment))
