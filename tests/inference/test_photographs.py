"""Raw photographs are found, prepared, scored and read, whether files, bytes or pixels."""

import dataclasses
import functools
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageOps

from dr_tfx import api
from dr_tfx.config import specs
from dr_tfx.explanation import answering
from dr_tfx.inference import photographs, scoring
from dr_tfx.models import bundles
from dr_tfx.preprocessing import recipes
from dr_tfx.sources import given
from tests.helpers import datasets
from tests.helpers.bundled import evaluated_bundle, with_gate, write_photographs
from tests.helpers.drawn import draw
from tests.helpers.slices import series_of


def reader_of(bundle):
    return photographs.PhotographReader(scoring.BundleReader(bundle))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("extension", [".png", ".tif", ".webp"])
def test_photographs_are_turned_as_their_camera_was_held(tmp_path, extension, orientation):
    image = Image.fromarray(draw(2, width=321, height=199, center=(80, 100), radius=70)[..., ::-1])
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / f"tagged{extension}", exif=exif, lossless=True)
    ImageOps.exif_transpose(Image.open(tmp_path / f"tagged{extension}")).save(tmp_path / "up.png")
    for name in ("reference", "fundus"):
        recipe = specs.Recipe(name=name, size=48)
        tagged, upright = (
            photographs.prepare(tmp_path / file, recipe).picture
            for file in (f"tagged{extension}", "up.png")
        )
        np.testing.assert_array_equal(tagged.rgb, upright.rgb)
        assert tagged.box == upright.box


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return bundles.load(evaluated_bundle(tmp_path_factory.mktemp("bundle")))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_photographs(tmp_path_factory.mktemp("raw") / "photographs")


def test_photographs_are_read_and_rejected_in_order(bundle, folder):
    bundle = with_gate(bundle, "reject")
    names = ["black.png", "broken.jpg", "eye.jpeg", "b/eye.png", "empty", "none.png"]
    paths = [folder / name for name in names]
    found = list(reader_of(bundle)(paths))  # Two batches of three.
    assert [one.name for one in found] == [str(path) for path in paths]
    assert found[0].rejected.startswith("ungradable:black: brightness 0")
    assert [one.rejected for one in found[2:]] == [
        *("", "", "unreadable: it is a folder", "unreadable: No such file or directory")
    ]
    assert found[1].rejected.startswith("unreadable: ")
    assert [one.reading is None for one in found] == [True, True, False, False, True, True]
    recipe = bundle.experiment.dataset.recipe
    for one in found[2:4]:
        rgb = recipes.apply_recipe(Path(one.name).read_bytes(), recipe).rgb
        score = scoring.view_scorer(bundle)(rgb[None]).numpy().mean()
        answer = one.reading.answer
        assert one.reading.number == answer["score"] == pytest.approx(score, abs=1e-6)
        assert answer["decision"] == ("positive" if score >= 0.45 else "negative")
        slope, intercept = datasets.SCALING
        odds = (score / (1 - score)) ** slope * np.exp(intercept)
        assert answer["probability"] == pytest.approx(odds / (1 + odds), abs=1e-6)
        np.testing.assert_array_equal(one.picture.rgb, rgb)


def test_a_file_its_bytes_and_its_pixels_are_the_same_photograph(bundle, folder):
    file = folder / "b" / "eye.png"
    rgb = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
    found = list(reader_of(bundle)([file, str(file), file.read_bytes(), rgb]))
    assert [one.name for one in found] == [str(file), str(file), "", ""]
    for one in found[1:]:
        np.testing.assert_array_equal(one.picture.rgb, found[0].picture.rgb)
        assert one.reading.number == pytest.approx(found[0].reading.number, abs=1e-7)
    blue_for_red = next(reader_of(bundle)([rgb[..., ::-1]]))
    assert (blue_for_red.picture.rgb != found[0].picture.rgb).any()


@pytest.mark.parametrize("pixels", [np.zeros((9, 9)), np.zeros((9, 9, 4), np.uint8)])
def test_other_pixels_are_an_error_of_the_caller(bundle, pixels):
    with pytest.raises(ValueError, match=r"expected RGB, uint8 \(height, width, 3\)"):
        next(reader_of(bundle)([pixels]))


def test_no_more_than_a_batch_is_taken_at_a_time(bundle, folder):
    taken = []

    def given():
        for i in range(7):
            taken.append(i)
            yield folder / "eye.jpeg"

    reader = reader_of(bundle)(given())
    next(reader)
    assert taken == [0, 1, 2]
    assert len(list(reader)) == 6


def test_slices_have_their_neighbours_after_an_interruption_too(bundle, tmp_path):
    pytest.importorskip("pydicom")
    recipe = dataclasses.replace(
        bundle.experiment.dataset.recipe, name="ct_neighbours", quality_gate="off"
    )
    dataset = dataclasses.replace(bundle.experiment.dataset, recipe=recipe)
    experiment = dataclasses.replace(bundle.experiment, dataset=dataset)
    model = api.TrainedModel(dataclasses.replace(bundle, experiment=experiment))
    reader = reader_of(model.bundle)
    for height, data in series_of("1.2", range(0, 20, 4)).items():
        (tmp_path / f"{height:02}.dcm").write_bytes(data)
    found = given.photographs([str(tmp_path)])
    whole, parts = reader(found), [*reader(found[:2], found[2:]), *reader(found[2:], found[:2])]
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(one.picture.rgb, other.picture.rgb)
        assert one.picture.substituted == (one.name in (found[0].shown, found[-1].shown))

    def answer() -> pd.DataFrame:
        drawn = functools.partial(pytest.fail, "Nothing is drawn here.")
        answered = answering.AnsweringModel(tmp_path, "", experiment, (), lambda: reader, drawn)
        out, how = tmp_path / "out", {"is_drawn": False, "colormap": "jet", "masks": None}
        answers = answering.Answering(answered, out, **how, made={})
        answers(found)
        return pd.read_csv(out / "predictions.csv")

    (tmp_path / "out").mkdir()
    expected = answer()
    lines = (tmp_path / "out" / "predictions.csv").read_text().splitlines(keepends=True)
    (tmp_path / "out" / "predictions.csv").write_text("".join(lines[:3]))  # As a kill leaves it.
    pd.testing.assert_frame_equal(answer(), expected, atol=1e-6)
    told = model.predict(found[2].shown, [one.shown for one in found])["score"]
    alone = model.predict(found[2].shown)["score"]
    assert told == pytest.approx(expected["score"][2], abs=1e-6) != alone


def test_an_ungradable_photograph_is_read_where_the_recipe_only_counts(bundle, folder):
    for gate, expected in (("count", "black"), ("off", "")):
        reader = reader_of(with_gate(bundle, gate))
        (one,) = reader([folder / "black.png"])
        assert (one.rejected, one.ungradable) == ("", expected)
        assert 0 <= one.reading.number <= 1


def test_without_a_calibration_there_is_a_score_and_no_probability(bundle, folder):
    reader = reader_of(dataclasses.replace(bundle, fitted=None))
    (one,) = reader([folder / "eye.jpeg"])
    answer = one.reading.answer
    assert answer["probability"] is None and 0 < answer["score"] < 1
    assert answer["threshold"] == 0.5


def test_a_model_of_pictures_prepared_elsewhere_reads_no_photographs(bundle):
    arrays = dataclasses.replace(bundle.manifest, prepared="elsewhere")
    with pytest.raises(ValueError, match=r"prepared outside of dr_tfx.*build the data set from"):
        reader_of(dataclasses.replace(bundle, manifest=arrays))
