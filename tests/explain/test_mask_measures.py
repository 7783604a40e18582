"""The averages of measures against masks, and the sentences that follow from them."""

import pandas as pd
import pytest

from beam_jobs.explain import mask_measures


def table(*, hit, hit_other, energy, insertion, deletion, energy_other=0.1, outside=0):
    """40 photographs of as many patients. They are alike, but only a share of them has a hit, and
    the highest place of the first few maps is outside of the lit field."""
    return pd.DataFrame(
        {
            "id": [str(i) for i in range(40)],
            "patient": [str(i) for i in range(40)],
            "label": 1,
            "method": "gradcam",
            "lesion": mask_measures.ANY,
            "hit": [float(i < hit * 40) for i in range(40)],
            "hit_chance": 0.25,
            "hit_other": hit_other,
            "energy": energy,
            "area": 0.1,
            "energy_other": energy_other,
            "insertion": insertion,
            "insertion_random": 0.5,
            "deletion": deletion,
            "deletion_random": 0.5,
            "outside": [float(i < outside) for i in range(40)],
        }
    )


def test_verdicts_say_plainly_what_the_maps_do_not_do():
    good = table(hit=0.75, hit_other=0.25, energy=0.2, insertion=0.6, deletion=0.4)
    bad = table(hit=0.25, hit_other=0.25, energy=0.1, insertion=0.5, deletion=0.6, outside=3)
    summary = mask_measures.summarise(good, ["a", "b"])
    assert not any(verdict["alarm"] for verdict in summary["verdicts"])
    text = " ".join(verdict["text"] for verdict in summary["verdicts"])
    assert "25.0 % by chance; for another photograph's map it is 25.0 %." in text
    assert "lit field, 10.0 %; for another photograph's map it is 10.0 %." in text
    row = summary["rows"][0]
    assert row["hit"]["value"] == 0.75 and row["hit_gain"]["value"] == pytest.approx(0.5)
    assert row["deletion_gain"]["value"] == pytest.approx(0.1)
    assert [row["name"] for row in summary["rows"]] == [mask_measures.ANY, "b"]
    summary = mask_measures.summarise(bad, ["a", "b"])
    verdicts = summary["verdicts"]
    assert all(verdict["alarm"] for verdict in verdicts) and len(verdicts) == 6
    text = " ".join(verdict["text"] for verdict in verdicts)
    assert "do not point at lesions" in text and "25.0 % by chance" in text
    assert "not above the lesions' share of the lit field, 10.0 %" in text
    assert "By the highest place and by the share, another photograph's map does as well" in text
    assert "In 3 of 40 maps the highest place of all is outside of the lit field" in text
    assert summary["rows"][0]["outside"]["value"] == pytest.approx(3 / 40)


def test_a_map_that_beats_another_photographs_by_one_measure_only_is_said_to():
    half = table(
        hit=0.75, hit_other=0.25, energy=0.2, energy_other=0.2, insertion=0.6, deletion=0.4
    )
    alarm_of = {v["text"]: v["alarm"] for v in mask_measures.summarise(half, "ab")["verdicts"]}
    (alike,) = (text for text in alarm_of if text.startswith("By the share, another"))
    assert not any(alarm_of.values()) and "40 photographs tell" in alike  # Each its own patient.


def test_rounding_is_no_gain():
    alike = table(hit=0.75, hit_other=0.25, energy=0.2, insertion=0.1 + 0.2, deletion=0.4)
    alike = alike.assign(insertion_random=0.3)  # 0.1 + 0.2 is 4e-17 more.
    row = mask_measures.summarise(alike, "ab")["rows"][0]
    assert row["insertion_gain"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    verdicts = mask_measures.summarise(alike, "ab")["verdicts"]
    (said,) = (v for v in verdicts if v["text"].startswith("Bringing back"))
    assert said["alarm"] and "no more than doing so in random places" in said["text"]
