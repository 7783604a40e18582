"""What an evaluation of validation keeps of it."""

import numpy as np
import pytest

from dr_tfx.evaluation import drift as kept
from dr_tfx.evaluation import evaluate, gallery
from dr_tfx.explanation import explainer
from dr_tfx.inference import drift as watching
from dr_tfx.inference import scoring
from dr_tfx.models import bundles, drift_file
from dr_tfx.statistics import drift
from tests.helpers import bundled

VALIDATION = range(33, 44)  # The examples of it, of which each is grey and two are of a patient.


def test_it_keeps_what_its_photographs_look_like_to_every_reader_of_the_run(tmp_path, monkeypatch):
    workdir = bundled.evaluated_bundle(tmp_path)
    assert len({n // 2 for n in VALIDATION}) == 6  # Patients.
    monkeypatch.setattr(drift, "FEWEST", 6)
    bundle, data_dir = bundles.load(workdir), tmp_path / "data"
    predictions = evaluate.predict(bundle, data_dir, "validation")
    images = gallery.reader(data_dir, bundle.manifest, "validation")
    told = {"fitted": bundle.fitted, "data": bundle.manifest, "commands": [], "images": images}
    kept.keep(evaluate.Scored(bundle, workdir, "test", predictions, **told))
    assert not drift_file.usual_path(workdir).exists()
    kept.keep(evaluate.Scored(bundle, workdir, "validation", predictions, **told))
    found = drift_file.of_run(workdir)
    assert len(found.patients) == 6 and found.scores == ("score",)
    rgb = np.stack([np.full((32, 32, 3), n, np.uint8) for n in VALIDATION])
    watch = watching.Watch(found)
    readings = scoring.BundleReader(bundle).read(rgb)
    rows = [watch.row(one, reading) for one, reading in zip(rgb, readings, strict=True)]
    np.testing.assert_allclose(found.sums, np.sum(rows, axis=0), rtol=1e-4, atol=1e-3)
    explained = explainer.Explainer(bundle).explain(rgb)
    for one, (other, _) in zip(readings, explained, strict=True):
        assert other.features == pytest.approx(one.features, abs=1e-5)
    path = drift_file.usual_path(workdir)
    path.write_text(path.read_text().replace('"key": "', '"key": "0'))
    assert drift_file.of_run(workdir) is None  # It is another model's.
