"""Cross-validation: each photograph is tested once, by a model that nothing of it has chosen.

A kind of task that the project does not know goes the whole way; it draws no figures, which would
take most of the time.
"""

import dataclasses
import json
import re
from html import unescape

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, recall_score

import dr_tfx
from dr_tfx import tasks
from dr_tfx.config import specs, typed
from dr_tfx.dataset import identities, manifest
from dr_tfx.evaluation import compare, crossvalidate, evaluate
from dr_tfx.models import bundle_file
from dr_tfx.training.train import train
from tests.helpers import backbones, datasets, ready
from tests.helpers.builds import SPEC, build
from tests.helpers.commands import train_line
from tests.tasks.toy.kind import Toy

COUNT = 3
DEALT = dataclasses.replace(SPEC, split=specs.Split(folds=COUNT))


def experiment(*, folds_of: int = COUNT, fold: int = -1) -> specs.Experiment:
    monitor = dict.fromkeys(("select_by", "early_stopping_monitor"), "val_accuracy")
    return tasks.from_config(
        {
            "dataset": typed.to_dict(SPEC) | {"split": {"folds": folds_of}},
            "task": {"kind": "toy", "name": "three_classes"},
            "model": {"backbone": backbones.TINY, "output_stride": 16, "weights": "none"},
            "training": {
                "epochs": 1,
                "batch_size": 8,
                "fold": fold,
                "loss": "categorical",
                **monitor,
            },
            "evaluation": {"bootstrap_resamples": 100},
        }
    )


@pytest.fixture(scope="module", autouse=True)
def known():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(tasks.KINDS, "toy", Toy)
        yield


@pytest.fixture(scope="module")
def data_dir(raw, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dealt")
    build(raw, folder, spec=DEALT)
    return folder


@pytest.fixture(scope="module")
def done(known, data_dir, tmp_path_factory):
    """The folder of a cross-validation that was interrupted and went on, and what it left alone."""
    workdir = tmp_path_factory.mktemp("cv")
    real = evaluate.evaluate
    begun = typed.to_dict(experiment())
    begun["training"] |= {"epochs": 9}
    mine = bundle_file.Config("mine.py:toy", begun)

    def interrupted(*, workdir, split, **given):
        if (workdir.name, split) == ("fold-1", "test"):
            raise KeyboardInterrupt
        return real(workdir=workdir, split=split, **given)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(evaluate, "evaluate", interrupted)
        crossvalidate.crossvalidate(experiment(), data_dir=data_dir, workdir=workdir, config=mine)
    kept = {path: path.stat().st_mtime_ns for path in workdir.rglob("*") if path.is_file()}
    page = crossvalidate.crossvalidate(
        experiment(), data_dir=data_dir, workdir=workdir, config=mine
    )
    assert page == workdir / "out_of_fold" / "report.html"
    return workdir, kept


@pytest.fixture(scope="module")
def table(done) -> pd.DataFrame:
    return pd.read_csv(done[0] / "out_of_fold" / "predictions.csv", dtype={"patient": str})


def test_what_was_finished_is_left_alone_when_it_goes_on(done):
    workdir, kept = done
    names = {path.relative_to(workdir).parts[0] for path in kept}
    assert {"fold-0", "fold-1"} <= names and not {"fold-2", "out_of_fold"} & names
    assert {path: path.stat().st_mtime_ns for path in kept if path.is_file()} == kept


def test_each_photograph_is_tested_in_its_own_fold_and_selected_by_the_next(done, table, data_dir):
    known = identities.load(data_dir, manifest.load(data_dir))
    fold_of = dict(zip(known.text("id"), known.text("split"), strict=True))
    assert table["id"].is_monotonic_increasing and len(table) == 40
    assert [f"fold-{k}" for k in table["fold"]] == [fold_of[name] for name in table["id"]]
    for k in range(COUNT):
        run = done[0] / f"fold-{k}"
        chosen_on = pd.read_csv(run / "evaluation" / "validation" / "predictions.csv")
        assert set(chosen_on["id"]) == set(table["id"][table["fold"] == (k + 1) % COUNT])
        assert json.loads((run / "bundle.json").read_text())["manifest"]["fold"] == k


def test_the_figures_are_those_of_all_photographs_and_of_the_folds(done, table):
    metrics = json.loads((done[0] / "out_of_fold" / "metrics.json").read_text())
    assert (metrics["counts"]["images"], metrics["counts"]["patients"]) == (40, 20)
    decided = table["decision"].map(SPEC.label_names.index)
    accuracy, recall = (metrics["measures"][key] for key in ("accuracy", "recall"))
    assert accuracy["pooled"]["value"] == pytest.approx(accuracy_score(table["class"], decided))
    expected = recall_score(table["class"], decided, average="macro")
    assert recall["pooled"]["value"] == pytest.approx(expected)
    of_folds = (decided == table["class"]).groupby(table["fold"]).mean()
    assert [fold["accuracy"]["value"] for fold in metrics["folds"]] == pytest.approx(list(of_folds))
    assert (accuracy["mean"], accuracy["sd"]) == pytest.approx((of_folds.mean(), of_folds.std()))
    assert [fold["images"] for fold in metrics["folds"]] == list(table.groupby("fold").size())


def test_the_page_links_the_folds_and_says_how_to_get_it_again(done):
    page = done[0] / "out_of_fold" / "report.html"
    text = page.read_text()
    links = re.findall(r'href="([^"#:,]+)"', text)
    assert links == [f"../fold-{k}/evaluation/test/report.html" for k in range(COUNT)]
    assert all((page.parent / link).is_file() for link in links)
    command = unescape(re.search(r"drtfx-crossvalidate .*?</", text, re.DOTALL)[0])
    assert command.split()[1] == "--config=mine.py:toy"
    assert re.findall(r"--config\.[^\s<]+", command) == ["--config.training.epochs=1"]
    title = re.search("<title>(.*)</title>", text)[1]
    assert re.search(r" · \S.* · tiny · \d{4}-\d\d-\d\d$", title), title


def test_the_face_gives_a_view_and_the_figures_of_what_is_finished(done, data_dir):
    view = dr_tfx.load_dataset(data_dir, fold=2).manifest
    assert list(view.counts) == ["train", "validation", "test"]
    assert list(dr_tfx.load_dataset(data_dir).counts) == ["fold-0", "fold-1", "fold-2"]
    models = {path: path.stat().st_mtime_ns for path in done[0].glob("fold-*/*")}
    told = dr_tfx.crossvalidate(experiment(), data_dir=data_dir, workdir=done[0])
    assert told["folds"][2]["images"] == sum(view.counts["test"].values())
    assert {path: path.stat().st_mtime_ns for path in models} == models


def test_the_models_of_all_folds_are_joined_and_nothing_of_their_data_tests_them(
    done, table, data_dir, tmp_path
):
    runs = [done[0] / f"fold-{k}" for k in range(COUNT)]
    model = dr_tfx.ensemble(runs, output_dir=tmp_path / "joined")
    assert model.bundle.fitted.split == "out of fold"
    assert model.bundle.fitted.commonest == SPEC.label_names[table["class"].mode()[0]]
    pixels = np.random.default_rng(0).uniform(0, 255, (4, *model.bundle.model.input_shape[1:]))
    members = [dr_tfx.load_bundle(run).bundle.model(pixels) for run in runs]
    assert model.bundle.model(pixels).numpy() == pytest.approx(np.mean(members, axis=0), abs=1e-6)
    for split in ("validation", "test"):
        with pytest.raises(ValueError, match=f"all folds: .* none is left for '{split}'"):
            dr_tfx.evaluate(tmp_path / "joined", data_dir=data_dir, split=split)
    told = dr_tfx.evaluate(tmp_path / "joined", data_dir=data_dir, split="train")
    assert told["counts"]["images"] == 40 and told["selection"]["chosen_on"] == "out of fold"
    assert told["selection"]["notes"][0].startswith("The model was fitted to this split")
    text = (tmp_path / "joined" / "evaluation" / "train" / "report.html").read_text()
    for said in (
        "the mean of the calibrated probabilities of 3 runs",
        f"drtfx-ensemble {runs[0]}",
        "--config.training.fold=2",
    ):
        assert said in text
    known = identities.load(data_dir, model.bundle.manifest)
    assert set(known.text("split")) == {"train"}
    compared = compare.load_run(tmp_path / "joined", "joined", "train")
    assert len(compared.predictions) == 40
    dr_tfx.export(tmp_path / "joined", data_dir=data_dir, output_dir=tmp_path / "onnx")
    compared = json.loads((tmp_path / "onnx" / "export.json").read_text())["compared"]
    assert (compared["split"], compared["images"]) == ("train", 40)


def test_the_flag_of_a_fold_is_the_setting(built, tmp_path):
    line = [*train_line(datasets.experiment(), built, tmp_path / "run"), "--fold=1"]
    done = ready.run(line)
    assert done.returncode == 1
    assert f"error: {built} has no folds, of which --fold=1 could be tested" in done.stderr


def test_several_processes_are_refused(data_dir, tmp_path, monkeypatch):
    task = {"type": "worker", "index": 0}
    cluster = {"worker": ["localhost:1", "localhost:2"]}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": task}))
    with pytest.raises(ValueError, match="names 2 processes, but a cross-validation runs in one"):
        crossvalidate.crossvalidate(experiment(), data_dir=data_dir, workdir=tmp_path)


def test_folds_that_are_not_asked_for_are_refused(data_dir, built, tmp_path):
    with pytest.raises(ValueError, match="has no folds. Build it with as many as there are to be"):
        crossvalidate.crossvalidate(experiment(), data_dir=built, workdir=tmp_path)
    with pytest.raises(typed.ConfigError, match="fold is 1, but every fold is trained here"):
        crossvalidate.crossvalidate(experiment(fold=1), data_dir=data_dir, workdir=tmp_path)
    with pytest.raises(ValueError, match="has 3 folds. Say which one is tested, --fold=0 to"):
        train(experiment(), data_dir=data_dir, workdir=tmp_path)
    with pytest.raises(ValueError, match="has no folds, of which --fold=0 could be tested"):
        train(experiment(fold=0), data_dir=built, workdir=tmp_path)
    with pytest.raises(ValueError, match="has 3 folds. Say which one is tested"):
        train(experiment(fold=3), data_dir=data_dir, workdir=tmp_path)
    assert not list(tmp_path.iterdir())
