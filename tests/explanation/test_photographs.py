"""Raw photographs with their heat maps: the same readings, and a figure of each."""

import cv2
import numpy as np
import pytest

from dr_tfx.config import specs
from dr_tfx.explanation import explainer, photographs
from dr_tfx.inference import photographs as read_photographs
from dr_tfx.inference import scoring
from dr_tfx.models import bundles
from tests.helpers.bundled import evaluated_bundle, write_photographs

JET = specs.COLORMAPS[-1]


def explainer_of(bundle, *args, **settings):
    return photographs.PhotographExplainer(explainer.Explainer(bundle, *args, **settings))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return bundles.load(evaluated_bundle(tmp_path_factory.mktemp("bundle")))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_photographs(tmp_path_factory.mktemp("raw") / "photographs")


def test_what_is_explained_is_what_is_read(bundle, folder):
    paths = [folder / "eye.jpeg", folder / "broken.jpg", folder / "b" / "eye.png"]
    read = list(read_photographs.PhotographReader(scoring.BundleReader(bundle))(paths))
    explained = list(explainer_of(bundle)(paths))
    for one, other in zip(explained, read, strict=True):
        assert (one.name, one.rejected) == (other.name, other.rejected)
        if one.rejected:
            assert one.heatmap is None and one.reading is None
            continue
        assert one.reading.number == pytest.approx(other.reading.number, abs=1e-6)
        assert one.reading.decision == other.reading.decision
        maps, _ = explainer.Explainer(bundle)(one.picture.rgb[np.newaxis])
        np.testing.assert_allclose(one.heatmap, maps[0], atol=1e-5)


def test_a_photograph_that_was_rejected_has_no_figure(bundle, folder):
    explain = explainer_of(bundle)
    read, rejected = explain([folder / "eye.jpeg", folder / "broken.jpg"])
    figure = np.frombuffer(explain.figure(read, colormap=JET), np.uint8)
    assert cv2.imdecode(figure, cv2.IMREAD_COLOR) is not None
    with pytest.raises(ValueError, match=r"broken\.jpg was rejected: unreadable"):
        explain.figure(rejected, colormap=JET)


def test_figures_differ_by_method_colours_and_views(bundle, folder):
    figures = []
    for settings, colormap in (
        ({}, specs.COLORMAPS[0]),
        ({"method": "occlusion"}, specs.COLORMAPS[0]),
        ({}, "jet"),
        ({"average_views": True}, specs.COLORMAPS[0]),
    ):
        explain = explainer_of(bundle, **settings)
        (one,) = explain([folder / "eye.jpeg"])
        figures.append(explain.figure(one, colormap=colormap))
    assert len(set(figures)) == 4
    with pytest.raises(ValueError, match="'gradcan'; expected one of"):
        explainer_of(bundle, "gradcan")
