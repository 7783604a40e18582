"""The model card: what a program reads of its head, and what a person reads below it."""

import json

import pytest
import yaml

import dr_tfx
from dr_tfx.evaluation import evaluate, model_card
from tests.helpers import screening


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    scored = screening.scored(screening.predictions(40), workdir=workdir)
    evaluate.write(scored, evaluate.metrics_of(scored))
    return workdir


@pytest.fixture
def text(folder):
    return model_card.of_run(folder).read_text()


def auc_of(folder):
    text = (folder / "evaluation" / "validation" / "metrics.json").read_text()
    return json.loads(text)["scores"]["tta"]["auc"]


def test_its_head_has_the_figures(folder, text):
    _, head, _ = text.split("---\n", 2)
    told = yaml.safe_load(head)
    assert (told["library_name"], told["pipeline_tag"]) == ("dr_tfx", "image-classification")
    (entry,) = told["model-index"]
    (result,) = entry["results"]
    assert result["dataset"] == {"type": "<eyes>", "name": "<eyes>", "split": "validation"}
    values = {metric["type"]: metric["value"] for metric in result["metrics"]}
    assert values["auc"] == round(auc_of(folder)["value"], 4)


def test_it_has_the_sections_the_limits_and_the_intervals(folder, text):
    sections = [line[3:] for line in text.splitlines() if line.startswith("## ")]
    assert sections == [
        *("Model details", "Intended use", "Factors", "Metrics", "Evaluation data"),
        *("Training data", "Quantitative analyses", "Ethical considerations"),
        *("Caveats and recommendations", "How to load it"),
    ]
    assert dr_tfx.NOTICE in text and "The checkpoint was chosen on this split: optimistic." in text
    assert "80 images of 40 patients" in text
    assert "| train | 80 | 80 | 80 | 80 | 80 | 200 |" in text
    auc = auc_of(folder)
    assert f"| AUC | {auc['value']:.3f} | {auc['low']:.3f}–{auc['high']:.3f} |" in text
    for table in text.split("\n\n"):
        assert len({line.count("|") for line in table.splitlines() if line[:1] == "|"}) <= 1


def test_names_are_nothing_but_text(text):
    _, _, body = text.split("---\n", 2)
    assert "<eyes>" not in body and "&lt;eyes&gt;" in body


def test_the_library_of_the_hub_reads_it(text):
    hub = pytest.importorskip("huggingface_hub", reason="needs dr_tfx[hub]")
    data = hub.ModelCard(text).data
    assert data.library_name == "dr_tfx" and data.model_name == "screening"
    assert {result.dataset_split for result in data.eval_results} == {"validation"}
