"""The linear probe beside a model, against scikit-learn on features that are computed here."""

import dataclasses
import string

import keras
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from dr_tfx.evaluation import evaluate, probe
from dr_tfx.inference import scoring
from dr_tfx.models import bundles, network
from dr_tfx.statistics.intervals import PatientBootstrap
from dr_tfx.tasks.judging import Ranking
from dr_tfx.words import languages
from tests.helpers import bundled, datasets

SPLITS = {"train": range(33), "validation": range(33, 44)}


def picture(number):
    """Photographs that differ in more than their brightness."""
    noise = np.random.default_rng(number).integers(0, 256, (32, 32, 3))
    return {"image/encoded": (noise * (0.3 + number % 7 / 10)).astype(np.uint8)}


@pytest.fixture
def run(tmp_path):
    """A run that began with the weights of another one, and has others now; and its data set."""
    experiment = datasets.experiment(batch_size=4)
    data = datasets.write(tmp_path / "data", experiment.dataset, features=picture)
    donor = bundled.make_bundle(tmp_path / "donor", experiment, data, seed=3)
    model = dataclasses.replace(experiment.model, weights=str(donor / "weights.safetensors"))
    began = dataclasses.replace(experiment, model=model)
    return bundled.make_bundle(tmp_path / "run", began, data), tmp_path / "data", donor


def measured(workdir, data_dir, split="validation"):
    bundle = bundles.load(workdir)
    predictions = scoring.predict_split(bundle, data_dir, split)
    return probe.measure(bundle, predictions, workdir=workdir, data_dir=data_dir, split=split)


def test_it_is_a_logistic_regression_on_what_the_backbone_was_at_first(run):
    workdir, data_dir, donor = run
    network_of_donor = bundles.load(donor).model
    pooled = keras.Model(
        network_of_donor.inputs, network_of_donor.get_layer(network.POOLING).output
    )
    seen = {
        split: pooled.predict(
            np.stack([picture(n)["image/encoded"] for n in numbers]).astype(np.float32), verbose=0
        )
        for split, numbers in SPLITS.items()
    }
    labels = {split: np.repeat(range(3), counts) > 0 for split, counts in datasets.COUNTS.items()}
    regression = make_pipeline(StandardScaler(), LogisticRegression(C=1e-3))
    regression.fit(seen["train"], labels["train"])
    for split, features in seen.items():
        found = measured(workdir, data_dir, split)
        expected = regression.decision_function(features)
        assert found.scores[:, 0] == pytest.approx(expected, abs=1e-5)
        assert found.photographs == 33 and np.ptp(expected) > 1e-3


def test_it_is_fitted_once_and_again_for_other_weights(run):
    workdir, data_dir, donor = run
    first = measured(workdir, data_dir)
    kept = workdir / "evaluation" / probe.FILE
    written = kept.stat().st_mtime_ns
    assert np.array_equal(measured(workdir, data_dir).scores, first.scores)
    assert kept.stat().st_mtime_ns == written
    kept.write_bytes(kept.read_bytes()[:100])  # Damage costs nothing but the time.
    assert np.array_equal(measured(workdir, data_dir).scores, first.scores)
    experiment = bundles.load(workdir).experiment
    assert probe.missing(experiment) == ""
    (donor / "weights.safetensors").unlink()
    assert measured(workdir, data_dir) is None
    for weights, why in (
        (experiment.model.weights, "the pre-trained weights that the model began with are not"),
        (str(donor), "the model began with the whole network of another run"),
        ("none", "the model began without pre-trained weights"),
    ):
        model = dataclasses.replace(experiment.model, weights=weights)
        said = probe.missing(dataclasses.replace(experiment, model=model))
        assert said.startswith(f"No linear probe stands beside the model: {why}")
        assert not set(string.ascii_letters) & set(languages.of("ko").said(said))


def test_a_run_without_pre_trained_weights_has_none(tmp_path):
    workdir = bundled.evaluated_bundle(tmp_path)
    assert measured(workdir, tmp_path / "data") is None


def test_the_report_has_the_probe_and_the_paired_difference(run):
    workdir, data_dir, _ = run
    page = evaluate.evaluate(workdir=workdir, data_dir=data_dir, split="validation")
    text = page.read_text()
    assert 'id="probe"' in text and "fitted to 33 training" in text


def test_the_difference_is_that_of_the_aucs_and_a_model_that_is_worse_an_alarm():
    rng = np.random.default_rng(1)
    truth = np.arange(60) % 3 == 0
    model, linear = (truth + spread * rng.normal(size=60) for spread in (2.0, 0.5))

    def judged(model, linear):
        rankings = [Ranking("ill", truth, model)]
        return probe.judged(
            probe.Probe(linear[:, None], 40),
            rankings,
            lambda: PatientBootstrap(np.arange(60), resamples=200),
        )

    found = judged(model, linear)
    expected = roc_auc_score(truth, model) - roc_auc_score(truth, linear)
    assert found["difference"]["value"] == pytest.approx(expected) and expected < -0.1
    assert found["difference"]["low"] < expected < found["difference"]["high"] < 0
    assert found["auc"]["value"] == pytest.approx(roc_auc_score(truth, linear))
    [alarm] = probe.alarms(found)
    assert f"an AUC of {found['auc']['value']:.3f}, the model with {found['model']:.3f}" in alarm
    assert probe.alarms(judged(linear, model)) == probe.alarms(None) == []
    assert judged(model, linear * np.nan) is None
