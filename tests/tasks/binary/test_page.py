"""What the report says of a binary model, and the page as a browser sees it."""

import dataclasses
import functools
import re
from collections.abc import Mapping
from html import unescape
from pathlib import Path

import numpy as np

from dr_tfx.evaluation import evaluate, gallery, report
from dr_tfx.reports.style import ReportFigure
from dr_tfx.statistics import operating_points
from dr_tfx.tasks.binary import report_figures
from tests.helpers import browsing, datasets, screening
from tests.helpers.drawn import draw, encode


@functools.cache
def _figures() -> list[ReportFigure]:
    scored = screening.scored(screening.predictions(40))
    return scored.judgement.figures(scored.predictions, evaluate.metrics_of(scored))


def _html(scored: evaluate.Scored, summary: Mapping | None = None) -> str:
    """The page; its figures are those of other predictions, to be drawn only once."""
    summary = summary or evaluate.metrics_of(scored)
    history = screening.history()
    return report.render(scored, summary, figures=_figures(), history=history)


def _words(html: str) -> str:
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", html)))


def test_the_headline_gives_rates_and_the_weakest_label():
    scored = screening.scored(screening.predictions())
    summary = evaluate.metrics_of(scored)
    rates = summary["scores"]["tta"]["at_threshold"]["rates"]
    found, cleared = (round(100 * rates[n]["value"]) for n in ("sensitivity", "specificity"))
    weakest = min(summary["strata"], key=lambda row: row["correct"] / row["images"])
    text = _words(_html(scored, summary))
    assert f"The model finds {found} % of the 'abnormal' images" in text
    assert f"It clears {cleared} % of the 'normal' images" in text
    share = 100 * weakest["correct"] / weakest["images"]
    said = f"least often correct about '{weakest['name']}': {share:.1f} % of {weakest['images']}"
    assert said in text.replace("\u00a0", " ")


def test_the_gallery_says_how_many_mistakes_it_shows_and_which():
    predictions = screening.predictions()
    called = predictions["score"] >= 0.5
    wrong = predictions[called != (predictions["target"] == 1)]
    missed, alarmed = ((wrong["target"] == c).sum() for c in (1, 0))
    assert missed > 10 and alarmed > 10
    text = _html(screening.scored(predictions))
    assert f"Shown are 10 of {missed}, those with the lowest scores" in text
    assert f"Shown are 10 of {alarmed}, those with the highest scores" in text
    kept = predictions[~predictions["id"].isin(wrong["id"][wrong["target"] == 1].iloc[3:])]
    text = _html(screening.scored(kept))
    assert "Shown are all 3, the lowest score first." in text and "Shown are 10 of" in text


def test_what_calibrated_scores_are_not_good_for_is_on_the_page():
    scored = screening.scored(screening.predictions())
    summary = evaluate.metrics_of(scored)
    told = summary["calibration"] | {"notes": ["Not <here>."]}
    assert "<p>Not &lt;here&gt;.</p>" in _html(scored, {**summary, "calibration": told})


def test_accuracy_is_never_shown_without_the_majority_rate():
    scored = screening.scored(screening.predictions())
    summary = evaluate.metrics_of(scored)
    html = _html(scored, summary)
    blocks = re.findall(r'<table.*?</table>|<div class="card">.*?</div>', html, re.S)
    shown = [_words(b).lower().replace("balanced accuracy", "") for b in blocks]
    shown = [words for words in shown if "accuracy" in words]
    assert len(shown) == 5  # Headline, operating points, referral, patients, augmentation.
    for words in shown:
        assert "majority" in words or "always 'normal'" in words, words
        assert f"{100 * summary['counts']['majority_rate']:.1f} %" in words, words


def test_what_was_chosen_on_the_split_is_labelled_where_it_is_shown():
    scored = screening.scored(screening.predictions())
    assert _html(scored).count("chosen on this split</span>") == 3  # Decisions, points, scores.
    fitted = dataclasses.replace(datasets.fitted(0.5), split="elsewhere")
    html = _html(screening.scored(screening.predictions(), name="test", fitted=fitted))
    assert 'class="badge"' not in html
    assert "were found on 'elsewhere' and are merely used here" in _words(html)
    assert "Nothing was chosen on this split" in html


def test_operating_points_have_a_letter_each_and_equal_thresholds_share_it():
    points = (
        operating_points.OperatingPoint("youden", None, 0.5),
        operating_points.OperatingPoint("min_sensitivity", 0.872, 0.25),
        operating_points.OperatingPoint("min_specificity", 0.907, 0.25),
    )
    fitted = dataclasses.replace(datasets.fitted(0.5), points=points)
    scored = screening.scored(screening.predictions(), fitted=fitted)
    marked = report_figures.marked_points(evaluate.metrics_of(scored))
    assert [(at.letter, at.names, at.chosen) for at in marked] == [
        ("A", ("Youden", "0.5"), True),
        ("B", ("sensitivity ≥ 0.872", "specificity ≥ 0.907"), False),
    ]
    assert [at.point["threshold"] for at in marked] == [0.5, 0.25]


def test_a_threshold_above_all_scores_leaves_dashes(tmp_path):
    scored = screening.scored(screening.predictions(), threshold=1.0, workdir=tmp_path)
    summary = evaluate.metrics_of(scored)
    assert summary["scores"]["tta"]["at_threshold"]["rates"]["ppv"]["value"] is None
    text = _words(evaluate.write(scored, summary).read_text())
    assert "finds 0 % of the 'abnormal' images and misses 100 %" in text and "PPV –" in text
    assert summary["alarms"] and "Alarm" in text


def test_one_view_has_no_effect_of_augmentation():
    settings = screening.experiment(views=("identity",))
    predictions = screening.predictions(views=("identity",))
    html = _html(screening.scored(predictions, settings=settings))
    assert "est-time augmentation" not in html and "of the image as it is" in html


def test_text_from_data_is_escaped(tmp_path):
    predictions = screening.predictions()
    worst = predictions["score"].where(predictions["target"] == 0).idxmax()
    predictions.loc[worst, "id"] = "<script>alert(1)</script>"
    settings = screening.experiment(("<b>a", "b&c"))
    html = _html(screening.scored(predictions, settings=settings))
    assert "<script>alert" not in html and "&lt;script&gt;alert" in html
    assert "<b>a" not in html


def test_a_float32_score_at_the_threshold_is_decided_alike_everywhere():
    predictions = screening.predictions()
    predictions["score"] = np.float32(0.49)  # 0.49000000954 as float64: not below 0.49.
    scored = screening.scored(predictions.astype({"score": np.float32}), threshold=0.49)
    summary = evaluate.metrics_of(scored)
    confusion = np.array(summary["scores"]["tta"]["at_threshold"]["confusion"])
    assert confusion[:, 0].tolist() == [0, 0]
    assert sum(row["correct"] for row in summary["strata"]) == np.trace(confusion)


def test_the_page_in_a_browser(browser, tmp_path):
    screening.history().to_csv(Path(tmp_path) / "history.csv", index=False)
    scored = screening.scored(screening.predictions(), workdir=tmp_path)
    summary = evaluate.metrics_of(scored)
    shown, plain = scored.judgement.gallery(summary)[:2]
    jpeg = encode(draw(0), ".jpeg")
    images = [
        gallery.GalleryImage(shown, jpeg, jpeg, 120),
        gallery.GalleryImage(plain, jpeg, None, 120),
    ]
    page = evaluate.write(scored, summary, images)
    browsing.check_page(browser, page, pictures=8 + 3)
    assert "Nothing in it raises the score" in page.read_text()
    assert page.stat().st_size < 1e6
