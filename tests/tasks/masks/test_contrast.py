"""What contrast costs a model of lesions, against OpenCV's CLAHE and SciPy's labels."""

import dataclasses
import json
import re
from html import unescape

import cv2
import keras
import numpy as np
import pytest

from dr_tfx.config import specs, typed
from dr_tfx.evaluation import gallery
from dr_tfx.models import bundles, network
from dr_tfx.preprocessing import recipes
from dr_tfx.tasks.masks.fitting import MasksFitted
from tests.helpers import (
    backbones,  # noqa: F401 - `halving`.
    commands,
    masked,
    ready,
)
from tests.statistics.test_lesion_counts import by_scipy
from tests.tasks.masks import test_masks

LIMITS = (2, 8)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose maps follow fine contrast, as it lay on disks before there were clip limits."""
    folder = tmp_path_factory.mktemp("contrast")
    recipe = dataclasses.replace(masked.PLAIN, tiles=2)  # Of 32 pixels, eight would hold few.
    split = specs.Split(validation=0.25, test=0.5)
    spec = dataclasses.replace(masked.MASKED, recipe=recipe, split=split)
    data = masked.build(masked.draw_masked(folder / "raw"), spec)
    made = test_masks.experiment(model={"backbone": "halving", "output_stride": 4})
    made = dataclasses.replace(made, dataset=spec)
    keras.utils.set_random_seed(0)
    model = network.build(made)
    head = model.get_layer("score")
    kernel, bias = head.get_weights()
    head.set_weights([20 * kernel, 0 * bias])
    eyes = [(folder / "raw" / f"eye{i}.png").read_bytes() for i in range(4)]
    pictures = np.array([recipes.apply_recipe(eye, spec.recipe).rgb for eye in eyes], np.float32)
    maps = np.asarray(model(pictures, training=False), np.float64)
    limits = np.quantile(maps, 0.9, axis=(0, 1, 2)).round(2).tolist()
    fitted = MasksFitted("validation", dict(zip(test_masks.LESIONS, limits, strict=True)))
    how = {"data": data, "precision": "float32", "best_epoch": 1, "fitted": fitted}
    (folder / "run").mkdir()
    bundles.save(folder / "run", model, experiment=made, **how)
    path = folder / "run" / "bundle.json"
    content = json.loads(path.read_text())
    del content["experiment"]["evaluation"]["clip_limits"]
    path.write_text(json.dumps(content))
    return folder / "run"


def evaluated(run, *flags):
    data = run.parent / "data"
    line = commands.line("drtfx-evaluate", f"--workdir={run}", f"--data_dir={data}", *flags)
    return ready.run([*line, "--split=test"])


def expected(run, bundle, limit):
    """False marks an image, sensitivity and Dice of each lesion; limit None: as prepared."""
    data = bundle.manifest
    count = sum(data.counts["test"].values())
    read = gallery.reader(run.parent / "data", data, "test")(np.arange(count))
    pictures = []
    for rgb in read["image"]:
        lab = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)
        if limit:
            lightness = cv2.createCLAHE(limit, (2, 2)).apply(lab[..., 0].copy())
            lab = np.dstack([lightness, lab[..., 1:]])
        pictures.append(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB) if limit else rgb)
    maps = np.asarray(bundle.model(np.array(pictures, np.float32), training=False))
    figures = {}
    for k, name in enumerate(test_masks.LESIONS):
        shares = read[f"mask/{name}"][..., 0] / 254
        marked = maps[..., k] >= bundle.fitted.thresholds[name]
        each = [by_scipy(*pair) for pair in zip(shares > 0, marked, strict=True)]
        found, false = np.sum(each, axis=0)
        parts = sum(by_scipy(one, one)[0] for one in shares > 0)
        dice = 2 * shares[marked].sum() / (shares.sum() + marked.sum())
        figures[name] = {"false_marks": false / count, "sensitivity": found / parts, "dice": dice}
    return figures


def test_false_marks_are_counted_again_at_each_clip_limit(run):
    done = evaluated(run, f"--setting=clip_limits={LIMITS}", "--setting=bootstrap_resamples=100")
    assert done.returncode == 0, done.stderr
    page = run / "evaluation" / "test" / "report.html"
    told = json.loads(page.with_name("metrics.json").read_text())
    prepared = {row["name"]: row for row in told["lesions"]}
    assert [row["clip_limit"] for row in told["clip_limits"]] == [None, *LIMITS]
    bundle, seen = bundles.load(run), set()
    for row in told["clip_limits"]:
        figures = expected(run, bundle, row["clip_limit"])
        for lesion, (name, of) in zip(row["lesions"], figures.items(), strict=True):
            assert lesion["name"] == name
            assert {key: lesion[key]["value"] for key in of} == pytest.approx(of, abs=1e-4)
            if row["clip_limit"] is None:
                assert all(lesion[key] == prepared[name][key] for key in of)
            more = of["false_marks"] - prepared[name]["false_marks"]["value"]
            assert lesion["more"]["value"] == pytest.approx(more)
            seen.add((name, of["false_marks"]))
    assert len(seen) > 4  # Contrast changes what is marked.
    html = page.read_text()
    table = re.search(r'<table id="of-contrast">.*?</table>', html, re.S)[0]
    assert re.findall(r'<th scope="row">([^<]+)</th>', table) == 2 * ["as prepared", "2", "8"]
    assert "come on top of it" not in html and "False marks and contrast" in html
    assert "'--setting=clip_limits=(2, 8)' --setting=bootstrap_resamples=100" in unescape(html)


def test_a_setting_that_changes_scores_is_refused(run):
    with pytest.raises(ValueError, match=r"evaluation\.views cannot be given .* or clip_limits"):
        bundles.load(run).evaluated_with({"views": ("identity", "left_right")})
    with pytest.raises(typed.ConfigError, match=r"evaluation\.clip_limits.*limits that rise"):
        bundles.load(run).evaluated_with({"clip_limits": (4, 2)})
    assert bundles.load(run).evaluated_with(None).experiment.evaluation.clip_limits == ()
