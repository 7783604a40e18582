"""Numbers for which no model is needed, beside the model: their AUC by counting pairs."""

import json

import numpy as np
import pandas as pd
import pytest

from dr_tfx import tasks
from dr_tfx.evaluation import evaluate, one_numbers
from dr_tfx.tasks.judging import Ranking
from tests.helpers import screening

ILL = np.arange(100) % 5 < 2


def ranking(auc: float, *, positive=ILL, name="ill") -> Ranking:
    return Ranking(name, positive, scores(auc, positive))


def scores(auc: float, positive=ILL) -> np.ndarray:
    """Return numbers that have about this AUC: each class is spread evenly, one is moved."""
    values = np.empty(len(positive))
    for is_one in (False, True):
        count = int((positive == is_one).sum())
        values[positive == is_one] = (np.arange(count) + 0.5) / count
    return values + positive * (1 - np.sqrt(2 * (1 - auc)))


def pairs(positive, values) -> float:
    """Return the share of pairs of one of either class in which the positive one is higher."""
    above = values[positive][:, None] - values[~positive]
    return float((above > 0).mean() + (above == 0).mean() / 2)


def table(**columns) -> pd.DataFrame:
    return pd.DataFrame({"pixels/brightness": 9.0, **columns}, index=range(100))


def test_a_number_counts_in_either_direction():
    rng = np.random.default_rng(1)
    sides = {f"photograph/{n}": rng.integers(50, 60, 100) + 4 * ILL for n in ("width", "height")}
    lower = -scores(0.8)
    found = one_numbers.of(table(**sides, **{"photograph/bytes": lower}), [ranking(0.9)])
    assert found["model"] == pytest.approx(0.9, abs=0.01) and found["positive"] == "ill"
    told = {number["name"]: number for number in found["numbers"]}
    assert list(told) == ["file size", "width", "height", "area", "mean brightness"]
    area = sides["photograph/width"] * sides["photograph/height"]
    assert told["area"]["auc"] == pytest.approx(pairs(ILL, area)) and told["area"]["higher"]
    assert told["file size"]["auc"] == pytest.approx(1 - pairs(ILL, lower))
    assert told["file size"]["higher"] is False
    assert told["mean brightness"]["auc"] == 0.5 and told["mean brightness"]["same"]


@pytest.mark.parametrize(
    ("number", "model", "is_alarm"),
    [
        (0.77, 0.97, True),  # Above .75, whatever the model does.
        (0.70, 0.97, False),
        (0.70, 0.74, True),  # Within .05 of the model,
        (0.70, 0.62, True),  # or better than it.
        (0.70, 0.77, False),
    ],
)
def test_a_number_that_tells_the_label_or_comes_near_the_model_is_an_alarm(number, model, is_alarm):
    found = one_numbers.of(table(**{"photograph/bytes": scores(number)}), [ranking(model)])
    alarms = one_numbers.alarms(found)
    assert len(alarms) == is_alarm
    if is_alarm:
        assert f"(file size {found['numbers'][0]['auc']:.3f})" in alarms[0]
        assert f"the model with {found['model']:.3f}" in alarms[0]
        assert "how photographs were made" in alarms[0]


def test_what_chance_alone_may_give_is_said():
    found = one_numbers.of(table(**{"photograph/bytes": scores(0.55)}), [ranking(0.52)])
    # 1.96 times the spread of the Mann-Whitney statistic of 40 and 60 images.
    assert found["by_chance"] == pytest.approx(0.5 + 1.96 * np.sqrt(101 / (12 * 40 * 60)), abs=1e-4)
    (alarm,) = one_numbers.alarms(found)
    assert "chance alone reaches 0.616" in alarm and "how photographs were made" not in alarm


def test_several_classes_have_the_mean_of_their_own_directions():
    truth = np.arange(100) % 4  # The last class has no name here.
    found = one_numbers.of(
        table(**{"photograph/bytes": (truth == 1) * 2.0 - (truth == 2)}),
        [ranking(0.9, positive=truth == k, name=str(k)) for k in range(3)],
    )
    number = found["numbers"][0]
    # Class 0 and 3 have the middle value; class 1 is above, and class 2 below all others.
    assert number["auc"] == pytest.approx((0.5 + 1 + 1) / 3) and number["higher"] is None


def test_the_scores_of_different_models_are_not_compared():
    fold = np.arange(100) // 50
    each = ranking(0.9)
    apart = Ranking("ill", each.positive, each.score + 100 * fold)
    found = one_numbers.of_folds(table(**{"photograph/bytes": scores(0.8)}), [apart], fold)
    of_folds = [pairs(ILL[fold == k], each.score[fold == k]) for k in (0, 1)]
    assert found["model"] == pytest.approx(np.mean(of_folds))
    assert found["model"] > one_numbers.of(table(), [apart])["model"] + 0.1
    assert found["numbers"][0]["auc"] == pytest.approx(0.8, abs=0.01)  # Of all images together.


def test_nothing_is_told_apart_where_all_images_are_of_one_class():
    nobody = Ranking("ill", np.zeros(100, bool), np.zeros(100))
    assert one_numbers.of(table(), [nobody]) is one_numbers.of(table(), []) is None
    assert one_numbers.alarms(None) == []


def test_a_column_of_something_else_is_not_known():
    damaged = table(**{"photograph/bytes": "many", "photograph/width": np.nan})
    (number,) = one_numbers.of(damaged, [ranking(0.9)])["numbers"]
    assert number["name"] == "mean brightness"


def test_grades_are_told_apart_at_the_grade_that_is_referred():
    names = ("none", "mild", "severe")
    kind = tasks.of(
        tasks.from_config(
            {
                "dataset": {"label_names": names},
                "task": {"kind": "grades", "refer_from": 2},
                "training": {"loss": "cumulative"},
            }
        )
    )
    told = np.array([[0.7, 0.2, 0.1], [0.1, 0.5, 0.4], [0.2, 0.2, 0.6]])
    columns = {f"probability/{name}": told[:, k] for k, name in enumerate(names)}
    (referred,) = kind.judgement.rankings(pd.DataFrame({"target": [0, 1, 2], **columns}))
    assert referred.positive.tolist() == [False, False, True] and referred.name == "severe"
    assert referred.score == pytest.approx([0.1, 0.4, 0.6])


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    predictions = screening.predictions(40)
    predictions["photograph/bytes"] = 1000 - 100 * predictions["target"]
    folder = tmp_path_factory.mktemp("run")
    scored = screening.scored(predictions, workdir=folder)
    return evaluate.write(scored, evaluate.metrics_of(scored))


def test_the_report_has_a_table_and_the_alarm(page):
    text = page.read_text()
    assert "What one number tells without a model" in text
    assert "lower in 'abnormal'" in text and "the same for all" in text
    metrics = json.loads((page.parent / "metrics.json").read_text())
    assert metrics["one_numbers"]["model"] == metrics["scores"]["tta"]["auc"]["value"]
    assert any("(file size 1.000" in alarm for alarm in metrics["alarms"])
