"""The shell of the report: facts about the data set and the training, in words."""

import dataclasses
import re
from html import unescape
from pathlib import Path

import pytest

import dr_tfx
from dr_tfx.evaluation import evaluate, report
from tests.helpers import screening
from tests.helpers.screening import ADDONS, MANIFEST


def _page(folder: Path, **changes) -> str:
    screening.history().to_csv(folder / "history.csv", index=False)
    scored = screening.scored(screening.predictions(40), workdir=folder, **changes)
    return evaluate.write(scored, evaluate.metrics_of(scored)).read_text()


@pytest.fixture(scope="module")
def html(tmp_path_factory) -> str:
    return _page(tmp_path_factory.mktemp("run"))


def _words(html: str) -> str:
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", html)))


def test_the_page_says_how_the_model_was_made(html):
    title = re.search("<title>(.*)</title>", html)[1]
    assert re.fullmatch(r"screening on .* · MobileNetV2 · \d{4}-\d\d-\d\d", title)
    assert "best epoch 2, validation AUC 0.7000" in html
    text = _words(html)
    assert "The checkpoint of the best validation AUC was kept." in text
    for fact in ("mobile.h5", "best 2, at most 30", "0.0005 at first", "mixed float16"):
        assert fact in text, fact
    assert "Balance classes equally often" in text
    assert "drtfx-evaluate '--workdir=a folder' --split=validation" in text
    assert dr_tfx.NOTICE in html
    assert not re.search("[‘’]", html)


def test_the_page_says_what_training_cost(html):
    text = _words(html)
    assert "Time an epoch 10 s" in text
    # (.03 x 10 + .01 x 9 + .02 x 11) / 30
    assert "Waiting for input 2.0 % of the time in training" in text
    assert "Memory 2.25 GB at most" in text


def test_names_from_the_data_set_are_escaped(html):
    assert "<eyes>" not in html and "&lt;eyes&gt;" in html


def test_photographs_are_not_passed_off_as_patients(tmp_path):
    data = dataclasses.replace(MANIFEST, written=600)
    html = _page(tmp_path, data=data)
    assert f"80 images ({report.PATIENTS_NOT_KNOWN}):" in html
    assert f"<td>patient; {report.PATIENTS_NOT_KNOWN}</td>" in html
    assert "set config.dataset.patient_pattern" in html
    assert "of 40 patients" not in html and "bootstrap over patients" not in html


def test_classes_of_addons_are_named_with_their_arguments():
    facts = dict(report._training_facts(screening.bundle(ADDONS)))
    assert facts["Loss"] == "tfa.SigmoidFocalCrossEntropy (alpha 0.5)"
    assert "at first, tfa.AdamW (weight_decay 0.0001" in facts["Learning rate"]
