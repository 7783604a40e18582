"""From predictions to the page, without a model; and the page as a browser sees it."""

import base64
import dataclasses
import functools
import json
import re
import sys
import types
from collections.abc import Sequence
from html import unescape
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from absl import flags
from ml_collections import config_flags
from sklearn.metrics import average_precision_score, roc_auc_score

import dr_tfx
from dr_tfx import tasks
from dr_tfx.config import specs
from dr_tfx.dataset import manifest
from dr_tfx.evaluation import evaluate, report
from dr_tfx.reports import pages
from dr_tfx.reports.style import ReportFigure
from dr_tfx.statistics import operating_points
from dr_tfx.tasks.binary import report_figures
from dr_tfx.tasks.binary.summary import SCHEMA, notices, patients_known, summarise
from tests.helpers import browsing, configs, datasets
from tests.helpers.drawn import draw, encode

NAMES = ("normal", "abnormal")
STRATA = ("none", "mild", "moderate", "severe", "proliferative")
GRID = (0.30, 0.70, 0.01)
EXPERIMENT = tasks.from_config(
    {
        "dataset": {"name": "<eyes>", "label_names": STRATA, "split": {"strata": [0, 1, 1, 1, 1]}},
        "task": {"name": "screening", "class_names": NAMES, "label_map": [0, 1, 1, 1, 1]},
        "model": {"weights": "/weights/mobile.h5", "hidden": [64], "dropout": [0.5, 0.3]},
        "training": {"seed": 3, "learning_rate": 5e-4, "augmentation": {"vertical_flip": True}},
        "evaluation": {
            "threshold_rule": "accuracy",
            "threshold_grid": GRID,
            "bootstrap_resamples": 100,
        },
    }
)
MANIFEST = manifest.Manifest(
    dataset=EXPERIMENT.dataset,
    fingerprint="ab" * 32,
    libraries={"numpy": "2"},
    rows=1200,
    written=1200,
    rejected={},
    counts={split: dict.fromkeys(STRATA, 80) for split in ("train", "validation", "test")},
    patients={"train": 200, "validation": 200, "test": 200},
    shared_patients=0,
    twins=(),
    unlabelled=0,
    shards=tuple(
        manifest.Shard(f"{split}-0", split, 0, 400, 9, "ab" * 32)
        for split in ("train", "validation", "test")
    ),
)
TRAINING = {
    "best_epoch": 2,
    "experiment": specs.to_dict(EXPERIMENT),
    "libraries": {"tensorflow": "2.99"},
    "precision": "mixed_float16",
}


def _predictions(
    patients: int = 200, views: tuple[str, ...] = ("identity", "flip")
) -> pd.DataFrame:
    rng = np.random.default_rng(7)
    stratum = np.repeat(rng.choice(5, patients, p=[0.7, 0.1, 0.1, 0.05, 0.05]), 2)
    logit = rng.normal(size=2 * patients) + stratum - 1
    frame = pd.DataFrame(
        {
            "id": [f"{i // 2}_{'left' if i % 2 else 'right'}" for i in range(2 * patients)],
            "patient": [str(i // 2) for i in range(2 * patients)],
            "stratum": stratum,
            "target": (stratum > 0).astype(int),
            "score": 0.0,
        }
    )
    for view in views:
        noise = 0.2 * rng.normal(size=2 * patients)
        frame[f"score/{view}"] = 1 / (1 + np.exp(-logit - noise))
    frame["score"] = frame[[f"score/{view}" for view in views]].mean(axis=1)
    return frame


def _history() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "epoch": [1, 2, 3],
            "loss": [0.3, 0.2, 0.1],
            "val_loss": [0.3, 0.25, 0.27],
            "auc": [0.6, 0.7, 0.8],
            "val_auc": [0.6, 0.7, 0.69],
            "seconds": [10, 9, 11],
            "input_wait": [0.03, 0.01, 0.02],
            "peak_memory_gb": [1.5, 2.25, 2.0],
        }
    )


def _summary(predictions: pd.DataFrame, threshold: float = 0.5, **changes) -> dict:
    settings = {
        "class_names": NAMES,
        "stratum_names": STRATA,
        "fitted": datasets.fitted(threshold),
        "grid": GRID,
        "resamples": 200,
    } | changes
    chosen = evaluate.selection(
        "validation",
        fitted=settings["fitted"],
        checkpoint_rule="val_auc",
        shared_patients=0,
    )
    rest = {
        "elsewhere": None,
        "notices": [],
        "schema": SCHEMA,
        "selection": chosen,
        "split": "validation",
        "task": "screening",
    }
    return rest | summarise(predictions, **settings)


def _write(
    folder: Path,
    predictions: pd.DataFrame,
    summary: dict,
    data: manifest.Manifest = MANIFEST,
    pictures: Sequence[report.Picture] = (),
) -> Path:
    return evaluate.write(
        folder,
        predictions=predictions,
        summary=summary,
        history=_history(),
        contract=data.to_dict(),
        training=TRAINING,
        commands=[["drtfx-evaluate", "--workdir=a folder", "--split=validation"]],
        pictures=pictures,
    )


def test_summary_agrees_with_scikit_learn_and_adds_up():
    predictions = _predictions()
    summary = _summary(predictions)
    for name, column in (("identity", "score/identity"), ("tta", "score")):
        pair = predictions["target"], predictions[column]
        scores = summary["scores"][name]
        assert scores["auc"]["value"] == pytest.approx(roc_auc_score(*pair), abs=1e-9)
        expected = average_precision_score(*pair)
        assert scores["average_precision"]["value"] == pytest.approx(expected, abs=1e-9)
        assert np.sum(scores["at_half"]["confusion"]) == len(predictions)
    assert summary["views"] == ["identity", "flip"]
    assert summary["counts"]["patients"] == 200
    assert sum(row["images"] for row in summary["strata"]) == 400
    confusion = summary["scores"]["tta"]["at_threshold"]["confusion"]
    assert sum(row["correct"] for row in summary["strata"]) == np.trace(confusion)
    assert [row["name"] for row in summary["strata"]] == list(STRATA)
    assert len(summary["sweep"]) == 41


def test_most_wrong_lists_misses_and_false_alarms_worst_first():
    rows = _summary(_predictions())["most_wrong"]
    missed = [row["score"] for row in rows if row["truth"] == "abnormal"]
    alarmed = [row["score"] for row in rows if row["truth"] == "normal"]
    assert missed == sorted(missed)
    assert alarmed == sorted(alarmed, reverse=True)
    assert max(missed) < 0.5 <= min(alarmed)


def test_the_gallery_says_how_many_mistakes_it_shows_and_which():
    predictions, threshold = _predictions(), 0.5
    called = predictions["score"] >= threshold
    wrong = predictions[called != (predictions["target"] == 1)]
    missed, alarmed = ((wrong["target"] == c).sum() for c in (1, 0))
    assert missed > 10 and alarmed > 10
    text = _html(_summary(predictions, threshold))
    assert f"Shown are 10 of {missed}, those with the lowest scores" in text
    assert f"Shown are 10 of {alarmed}, those with the highest scores" in text
    kept = predictions[~predictions["id"].isin(wrong["id"][wrong["target"] == 1].iloc[3:])]
    text = _html(_summary(kept, threshold))
    assert "All 3, lowest score first." in text and "Shown are 10 of" in text


def test_what_calibrated_scores_are_not_good_for_is_on_the_page():
    summary = _summary(_predictions())
    told = summary["calibration"] | {"notes": ["Not <here>."]}
    assert "<p>Not &lt;here&gt;.</p>" in _html({**summary, "calibration": told})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.drop(columns="patient"), r"lack the columns \['patient'\]"),
        (lambda p: p.iloc[:0], "no predictions"),
        (lambda p: p.assign(score=np.nan), "400 values of 'score' .* did training diverge"),
        (lambda p: p.assign(id="twin"), "399 image ids repeat, first 'twin'"),
        (lambda p: p[p["target"] == 0], r"got classes \[0\]"),
    ],
)
def test_bad_predictions_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        _summary(change(_predictions()))


def test_the_folder_is_complete_and_the_numbers_survive_json(tmp_path):
    predictions = _predictions()
    summary = _summary(predictions)
    page = _write(tmp_path, predictions, summary)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "calibration.png",
        "confusion.png",
        "learning_curves.png",
        "metrics.json",
        "precision_recall.png",
        "predictions.csv",
        "referral.png",
        "report.html",
        "roc.png",
        "strata.png",
        "threshold_sweep.png",
    ]
    assert json.loads((tmp_path / "metrics.json").read_text()) == summary
    read = pd.read_csv(tmp_path / "predictions.csv", dtype={"id": str, "patient": str})
    decided = np.where(predictions["score"] >= 0.5, "abnormal", "normal")
    expected = predictions.assign(decision=decided)
    pd.testing.assert_frame_equal(read, expected, check_dtype=False)
    html = page.read_text()
    assert "best epoch 2, validation AUC 0.7000" in html
    assert "optimistic" in html
    assert dr_tfx.NOTICE in html
    assert "drtfx-evaluate &#39;--workdir=a folder&#39; --split=validation" in html
    for fact in ("mobile.h5", "best 2, at most 30", "0.0005 at first", "mixed float16"):
        assert fact in html, fact
    assert not re.search("[‘’]", html)


def test_a_failure_leaves_no_report_from_before(tmp_path, monkeypatch):
    predictions = _predictions()
    page = tmp_path / "report.html"
    page.write_text("of an earlier evaluation")
    monkeypatch.setattr(report_figures, "draw_figures", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        _write(tmp_path, predictions, _summary(predictions))
    assert not page.exists()


@functools.cache
def _figures() -> list[ReportFigure]:
    predictions = _predictions()
    return report_figures.draw_figures(predictions, _summary(predictions), _history())


def _html(summary: dict, data: manifest.Manifest = MANIFEST) -> str:
    """The page; its figures are those of other predictions, to be drawn only once."""
    return report.render(
        summary,
        _figures(),
        contract=data.to_dict(),
        training=TRAINING,
        history=_history(),
        commands=[["drtfx-evaluate"]],
    )


def _words(html: str) -> str:
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", html)))


def test_the_page_says_what_training_cost_and_how_classes_were_balanced():
    text = _words(_html(_summary(_predictions())))
    assert "Time an epoch 10 s" in text
    # (.03 x 10 + .01 x 9 + .02 x 11) / 30
    assert "Waiting for input 2.0 % of the time in training" in text
    assert "Memory 2.25 GB at most" in text
    assert "Balance classes equally often" in text


def test_accuracy_is_never_shown_without_the_majority_rate():
    summary = _summary(_predictions())
    html = _html(summary)
    blocks = re.findall(r'<table.*?</table>|<div class="card">.*?</div>', html, re.S)
    shown = [_words(b).lower().replace("balanced accuracy", "") for b in blocks]
    shown = [words for words in shown if "accuracy" in words]
    assert len(shown) == 5  # Headline, operating points, referral, patients, augmentation.
    for words in shown:
        assert "majority" in words or "always 'normal'" in words, words
        assert f"{100 * summary['counts']['majority_rate']:.1f} %" in words, words


def test_what_was_chosen_on_the_split_is_labelled_where_it_is_shown():
    summary = _summary(_predictions())
    assert _html(summary).count("chosen on this split</span>") == 3  # Decisions, points, scores.
    fitted = dataclasses.replace(datasets.fitted(0.5), split="elsewhere")
    chosen = evaluate.selection("test", fitted=fitted, checkpoint_rule="val_auc", shared_patients=0)
    summary = _summary(_predictions(), fitted=fitted) | {"split": "test", "selection": chosen}
    html = _html(summary)
    assert 'class="badge"' not in html
    assert "were found on 'elsewhere' and are merely used here" in _words(html)
    assert "Nothing was chosen on this split" in html and not summary["alarms"]


def test_operating_points_have_a_letter_each_and_equal_thresholds_share_it():
    points = [
        operating_points.OperatingPoint("youden", None, 0.5),
        operating_points.OperatingPoint("min_sensitivity", 0.872, 0.25),
        operating_points.OperatingPoint("min_specificity", 0.907, 0.25),
    ]
    fitted = dataclasses.replace(datasets.fitted(0.5), points=tuple(points))
    marked = report_figures.marked_points(_summary(_predictions(), fitted=fitted))
    assert [(at.letter, at.names, at.chosen) for at in marked] == [
        ("A", ("Youden", "0.5"), True),
        ("B", ("sensitivity ≥ 0.872", "specificity ≥ 0.907"), False),
    ]
    assert [at.point["threshold"] for at in marked] == [0.5, 0.25]


def test_a_threshold_above_all_scores_leaves_dashes(tmp_path):
    predictions = _predictions()
    summary = _summary(predictions, threshold=1.0)
    assert summary["scores"]["tta"]["at_threshold"]["rates"]["ppv"]["value"] is None
    text = _words(_write(tmp_path, predictions, summary).read_text())
    assert "finds 0 and misses 100" in text and "PPV –" in text
    assert summary["alarms"] and "Alarm" in text


def test_one_view_has_no_effect_of_augmentation():
    html = _html(_summary(_predictions(views=("identity",))))
    assert "est-time augmentation" not in html and "of the image as it is" in html


def test_figures_are_one_drawing_in_two_palettes():
    for figure in _figures():
        light, dark = (
            base64.b64decode(uri.partition("base64,")[2]).decode()
            for uri in (figure.light_uri, figure.dark_uri)
        )
        colours = [set(re.findall("#[0-9a-f]{6}", svg)) for svg in (light, dark)]
        assert "#ffffff" in colours[0] and colours[0].isdisjoint(colours[1]), figure.name
        assert re.sub("#[0-9a-f]{6}", "", light) == re.sub("#[0-9a-f]{6}", "", dark)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (pages.percent(0.9604), "96.0\u00a0%"),
        (pages.percent({"value": None}), "–"),
        (pages.number(-0.12345), "−0.123"),
        (pages.ratio(7.518), "7.52"),
        (pages.ratio(21.2), "21.2"),
        (pages.ratio(None), "∞"),
        (pages.interval({"low": 0.733, "high": 0.9074}), "73.3–90.7"),
        (pages.interval({"low": -0.1, "high": 0.2}, "number"), "−0.100 to 0.200"),
        (pages.interval({"low": 7.5, "high": None}, "ratio"), "7.50–∞"),
        (pages.interval({"low": 0.5, "high": None}), "50.0–?"),
        (pages.interval({"low": None, "high": None}), "not known"),
        (pages.signed(0.012), "+1.2"),
        (pages.signed(-0.0004), "0.0"),
        (pages.signed({"value": -0.0126}, "number"), "−0.013"),
        (pages.signed_interval({"low": -0.003, "high": 0.027}), "−0.3 to +2.7"),
        (pages.place(1.7), "100.00%"),
    ],
)
def test_figures_are_written_for_reading(written, expected):
    assert written == expected


def test_text_from_data_is_escaped(tmp_path):
    predictions = _predictions()
    worst = predictions["score"].where(predictions["target"] == 0).idxmax()
    predictions.loc[worst, "id"] = "<script>alert(1)</script>"
    html = _write(
        tmp_path, predictions, _summary(predictions, class_names=("<b>a", "b&c"))
    ).read_text()
    assert "<script>alert" not in html and "&lt;script&gt;alert" in html
    assert "<b>a" not in html and "<eyes>" not in html


def _stand_ins(monkeypatch, threshold, shared_patients=0):
    """Modules that answer like the real ones, at no cost; returns what was stored."""
    stored = []
    spec = types.SimpleNamespace
    bundle = spec(
        experiment=EXPERIMENT,
        manifest=dataclasses.replace(MANIFEST, shared_patients=shared_patients),
        fitted=None if threshold is None else datasets.fitted(threshold),
        best_epoch=2,
        libraries={},
        model=None,
        precision="float32",
    )
    modules = {
        "models": spec(
            load_bundle=lambda workdir: bundle,
            save_fitted=lambda workdir, fitted: stored.append(fitted),
        ),
        "gallery": spec(reader=lambda *_: None, pictures=lambda *_: []),
        "predict": spec(predict_split=lambda bundle, data_dir, split: _predictions()),
    }
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, f"dr_tfx.{name}", module)
        monkeypatch.setattr(dr_tfx, name, module, raising=False)
    return stored


def test_validation_chooses_and_stores_the_threshold(tmp_path, monkeypatch, caplog):
    stored = _stand_ins(monkeypatch, threshold=None)
    page = evaluate.evaluate(workdir=tmp_path, data_dir=Path("data"), split="validation")
    assert page == tmp_path / "evaluation" / "validation" / "report.html"
    predictions = _predictions()
    settings = EXPERIMENT.evaluation
    chosen = operating_points.choose(predictions["target"], predictions["score"], settings)
    best = chosen[0].threshold
    assert chosen[0].rule == settings.threshold_rule == "accuracy"
    assert [fitted.points for fitted in stored] == [chosen]
    written = json.loads((page.parent / "metrics.json").read_text())
    assert written["selection"]["threshold"] == best
    assert written["selection"]["optimistic"] is True
    assert "no history" in page.read_text()
    assert [r.getMessage() for r in caplog.records if r.levelname == "WARNING"] == [
        f"ALARM: {alarm}" for alarm in written["alarms"]
    ]


def test_another_split_uses_the_stored_threshold(tmp_path, monkeypatch):
    stored = _stand_ins(monkeypatch, threshold=0.37)
    page = evaluate.evaluate(workdir=tmp_path, data_dir=Path("data"), split="test")
    written = json.loads((page.parent / "metrics.json").read_text())
    assert written["selection"]["threshold"] == 0.37
    assert written["selection"]["optimistic"] is False
    assert stored == []


def test_patients_in_two_splits_make_every_split_optimistic(tmp_path, monkeypatch):
    _stand_ins(monkeypatch, threshold=0.37, shared_patients=12)
    page = evaluate.evaluate(workdir=tmp_path, data_dir=Path("data"), split="test")
    assert "12 patients have images in more than one split" in page.read_text()


def test_a_float32_score_at_the_threshold_is_decided_alike_everywhere():
    predictions = _predictions()
    predictions["score"] = np.float32(0.49)  # 0.49000000954 as float64: not below 0.49.
    summary = _summary(predictions.astype({"score": np.float32}), threshold=0.49)
    confusion = np.array(summary["scores"]["tta"]["at_threshold"]["confusion"])
    assert confusion[:, 0].tolist() == [0, 0]
    assert sum(row["correct"] for row in summary["strata"]) == np.trace(confusion)


def test_another_split_without_a_threshold_says_what_to_do(tmp_path, monkeypatch):
    _stand_ins(monkeypatch, threshold=None)
    with pytest.raises(ValueError, match="run --split=validation first"):
        evaluate.evaluate(workdir=tmp_path, data_dir=Path("data"), split="test")
    assert not list(tmp_path.iterdir())


def test_a_split_that_does_not_exist_is_said_before_the_order_of_splits(tmp_path, monkeypatch):
    _stand_ins(monkeypatch, threshold=None)
    with pytest.raises(ValueError, match="in split 'val'; it has train, validation, test"):
        evaluate.evaluate(workdir=tmp_path, data_dir=Path("data"), split="val")


def test_photographs_are_not_passed_off_as_patients():
    data = dataclasses.replace(MANIFEST, written=600)
    assert patients_known(MANIFEST.to_dict()) and not notices(MANIFEST.to_dict())
    assert not patients_known(data.to_dict())
    predictions = _predictions(patients=20)
    predictions["patient"] = predictions["id"]
    summary = _summary(predictions, patients_known=False)
    assert not any("patients" in alarm for alarm in summary["alarms"])
    summary["notices"] = notices(data.to_dict())
    html = _html(summary, data)
    assert f"40 images ({report.PATIENTS_NOT_KNOWN}):" in html
    assert f"<td>patient; {report.PATIENTS_NOT_KNOWN}</td>" in html
    assert "set config.dataset.patient_pattern" in html
    assert "of 40 patients" not in html and "bootstrap over patients" not in html


def test_twins_with_contradicting_labels_are_named():
    twins = (
        {"ids": ["a", "b"], "labels": [1, 4], "splits": ["train", "train"]},
        {"ids": ["c", "d"], "labels": [2, 2], "splits": ["train", "train"]},
    )
    (notice,) = notices(dataclasses.replace(MANIFEST, twins=twins).to_dict())
    assert notice.endswith("wrong: a (mild), b (proliferative).")


ADDONS = tasks.from_config(
    {
        "training": {
            "loss": "tfa.SigmoidFocalCrossEntropy",
            "optimizer": "tfa.AdamW",
            "metrics": ["tfa.CohenKappa"],
            "arguments": {
                "SigmoidFocalCrossEntropy": {"alpha": 0.5},
                "AdamW": {"weight_decay": 1e-4, "exclude_from_weight_decay": ["bias", "gamma"]},
                "CohenKappa": {"num_classes": 2, "weightage": "quadratic", "regression": False},
            },
        }
    }
)


def test_classes_of_addons_are_named_with_their_arguments():
    training = {**TRAINING, "experiment": specs.to_dict(ADDONS)}
    facts = dict(report._training_facts(training))
    assert facts["Loss"] == "tfa.SigmoidFocalCrossEntropy (alpha 0.5)"
    assert "at first, tfa.AdamW (weight_decay 0.0001" in facts["Learning rate"]


@pytest.mark.parametrize("experiment", [EXPERIMENT, ADDONS, tasks.from_config({})])
def test_the_commands_say_every_setting_of_the_run(experiment):
    _, train, *_ = evaluate.commands(
        experiment, workdir=Path("w"), data_dir=Path("d"), split="validation"
    )
    holder = flags.FlagValues()
    assert train.pop(1) == "--config=configs/base.py"
    config_flags.DEFINE_config_dict("config", configs.load("base"), "", holder, sys_argv=train)
    for name in ("workdir", "data_dir"):
        flags.DEFINE_string(name, None, "", holder)
    assert holder(train) == ["drtfx-train"]
    assert tasks.from_config(holder.config) == experiment


def test_the_page_in_a_browser(browser, tmp_path):
    predictions = _predictions()
    summary = _summary(predictions)
    shown, plain = (row["id"] for row in summary["most_wrong"][:2])
    jpeg = encode(draw(0), ".jpeg")
    pictures = [report.Picture(shown, jpeg, jpeg, 120), report.Picture(plain, jpeg, None, 120)]
    page = _write(tmp_path, predictions, summary, pictures=pictures)
    browsing.check_page(browser, page, pictures=8 + 3)
    assert "Nothing in it raises the score" in page.read_text()
    assert page.stat().st_size < 1e6
