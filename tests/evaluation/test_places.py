"""An evaluation where RUN cannot be written, and of a split that has one class alone."""

import json
import shutil

import pandas as pd
import pytest

from dr_tfx.evaluation import evaluate, headline
from dr_tfx.inference import scoring
from dr_tfx.models import bundles
from dr_tfx.storage import locks
from tests.helpers import bundled, datasets, disks


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    """A folder with the bundle `run` and its data set `data`, whose test split has one class."""
    folder = tmp_path_factory.mktemp("line")
    counts = {"train": (4, 4, 4), "validation": (5, 4, 2), "test": (6, 0, 0)}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(datasets, "COUNTS", counts)
        bundled.evaluated_bundle(folder)
    return folder


def test_one_class_has_predictions_its_rate_and_no_auc(line, tmp_path):
    out = tmp_path / "report"
    page = evaluate.evaluate(
        workdir=line / "run", data_dir=line / "data", split="test", output_dir=out
    )
    metrics, table = (
        json.loads((out / "metrics.json").read_text()),
        pd.read_csv(out / "predictions.csv"),
    )
    rates = metrics["scores"]["tta"]["at_threshold"]["rates"]
    assert len(table) == 6 and metrics["selection"]["threshold"] == 0.45
    assert rates["specificity"]["value"] == (table["score"] < 0.45).mean()
    assert rates["sensitivity"]["value"] is None
    assert metrics["scores"]["tta"]["auc"]["value"] is None and metrics["tta_effect"] is None
    assert (
        "AUC: not defined. All 6 images are 'negative', so that only the specificity can be seen "
        "here."
    ) in metrics["alarms"]
    assert not any("majority" in alarm or "guessing" in alarm for alarm in metrics["alarms"])
    text = page.read_text()
    assert "AUC: not defined, as all images are of one class." in text and "nan" not in text
    said = headline.of(out, line / "run")
    assert "AUC not defined, sensitivity not defined, specificity " in said
    assert not (out / "roc.png").exists() and (out / "confusion.png").exists()
    assert not (line / "run" / "evaluation").exists()


def test_nothing_is_fitted_on_one_class(line, tmp_path):
    predictions = scoring.predict_split(bundles.load(line / "run"), line / "data", "test")
    with pytest.raises(ValueError, match=r"got classes \[0\]"):
        bundles.load(line / "run").kind.judgement.fit(predictions, split="validation")


def test_a_run_that_cannot_be_written_is_evaluated_elsewhere_or_refused_before_the_work(
    line, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    with disks.mounted(tmp_path / "disk", size=20_000_000) as disk:
        shutil.copytree(line / "run", disk / "fitted")
        content = json.loads((disk / "fitted" / bundles.BUNDLE_FILE).read_text())
        shutil.copytree(disk / "fitted", disk / "new")
        (disk / "new" / bundles.BUNDLE_FILE).write_text(json.dumps({**content, "fitted": None}))
        disks.make_read_only(disk)
        run, new = disk / "fitted", disk / "new"
        data = {"data_dir": line / "data"}
        with monkeypatch.context() as patched:
            patched.setattr(evaluate, "predict", lambda *_: pytest.fail("worked"))
            with pytest.raises(OSError, match="Read-only file system") as refused:
                evaluate.evaluate(workdir=run, split="validation", **data)
            assert refused.value.filename == str(run / "evaluation" / "validation")
            with pytest.raises(OSError, match="stores there what it fits. Evaluate a copy of"):
                evaluate.evaluate(workdir=new, split="validation", output_dir=out, **data)
            assert not out.exists()
        for split in ("validation", "test"):
            evaluate.evaluate(workdir=run, split=split, output_dir=out / split, **data)
            metrics = json.loads((out / split / "metrics.json").read_text())
            assert metrics["selection"]["threshold"] == 0.45  # As it is stored in the bundle.


def test_two_evaluations_of_one_split_exclude_each_other(line, tmp_path):
    shutil.copytree(line / "run", tmp_path / "run")
    arguments = {"workdir": tmp_path / "run", "data_dir": line / "data"}
    with locks.held(evaluate.usual_folder(tmp_path / "run", "test")):
        with pytest.raises(BlockingIOError, match="test is in use: process"):
            evaluate.evaluate(split="test", **arguments)
        evaluate.evaluate(split="validation", **arguments)  # Another one does not wait.


def test_files_that_no_evaluation_made_are_left_as_they_are(line, tmp_path):
    (tmp_path / "roc.png").write_text("mine")
    with pytest.raises(FileExistsError, match="holds roc.png, which this command did not make"):
        evaluate.evaluate(
            workdir=line / "run", data_dir=line / "data", split="validation", output_dir=tmp_path
        )
    assert (tmp_path / "roc.png").read_text() == "mine"
