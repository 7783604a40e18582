"""Splits: published numbers, no leakage, no dependence on the process."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import train_test_split

from dr_tfx.config import specs
from dr_tfx.dataset import splits

EYEPACS_GRADES = (25_810, 2_443, 5_292, 873, 708)


def table(patients: int, *, labels: int = 5, seed: int = 0) -> pd.DataFrame:
    """Return two photographs a patient, whose labels are related."""
    rng = np.random.default_rng(seed)
    weights = np.array([0.6, 0.1, 0.2, 0.06, 0.04])[:labels]
    left = rng.choice(labels, patients, p=weights / weights.sum())
    right = np.clip(left + rng.integers(0, 2, patients), 0, labels - 1)
    patient = np.repeat(np.arange(patients).astype(str), 2)
    eye = np.tile(["left", "right"], patients)
    return pd.DataFrame(
        {
            "id": [f"{p}_{e}" for p, e in zip(patient, eye, strict=True)],
            "patient": patient,
            "label": np.column_stack([left, right]).ravel(),
        }
    )


def eyepacs() -> pd.DataFrame:
    label = np.random.default_rng(0).permutation(np.repeat(np.arange(5), EYEPACS_GRADES))
    ids = [f"{i // 2}_{('left', 'right')[i % 2]}" for i in range(len(label))]
    return pd.DataFrame({"id": ids, "patient": [i.split("_")[0] for i in ids], "label": label})


def test_image_method_gives_the_published_split():
    rows = eyepacs()
    split = specs.Split(method="image", validation=0.2, seed=42, strata=(0, 1, 1, 1, 1))
    made = splits.assign(rows, split)
    binary = (rows["label"] > 0).to_numpy()
    counts = pd.crosstab(made, binary)
    assert counts.loc["train"].tolist() == [20_647, 7_453]
    assert counts.loc["validation"].tolist() == [5_163, 1_863]
    _, held = train_test_split(rows["id"], test_size=0.2, stratify=binary, random_state=42)
    assert set(rows["id"][made == "validation"]) == set(held)


@pytest.mark.parametrize("test", [0.0, 0.15])
def test_no_patient_is_shared(test):
    rows = table(400)
    made = splits.assign(rows, specs.Split(validation=0.2, test=test, strata=(0, 1, 2, 3, 4)))
    assert (made.groupby(rows["patient"]).nunique() == 1).all()
    sizes = made.value_counts(normalize=True)
    assert sizes["validation"] == pytest.approx(0.2, abs=0.01)
    assert sizes.get("test", 0) == pytest.approx(test, abs=0.01)


def test_patients_are_stratified_within_rounding():
    rows = table(400)
    made = splits.assign(rows, specs.Split(validation=0.25))
    worst = rows.groupby("patient")["label"].max()
    held = set(rows["patient"][made == "validation"])
    for _, members in worst.groupby(worst):
        assert len(held & set(members.index)) == pytest.approx(0.25 * len(members), abs=1)


@pytest.mark.parametrize("seed", range(5))
def test_twins_stay_together(seed):
    rows = table(60)
    twins = [["0_left", "17_right"], ["17_left", "33_left", "5_right"], ["unknown", "8_left"]]
    made = splits.assign(rows, specs.Split(validation=0.3, test=0.3, seed=seed), twins)
    by_patient = made.astype(str).groupby(rows["patient"]).agg(set)
    assert by_patient.map(len).eq(1).all()
    assert len(set.union(*by_patient[["0", "17", "33", "5"]])) == 1


def test_only_the_seed_and_the_rows_decide():
    rows, split = table(100), specs.Split(validation=0.3)
    first = splits.assign(rows, split)
    pd.testing.assert_series_equal(first, splits.assign(rows.copy(), split))
    moved = rows.set_index(pd.RangeIndex(1000, 1000 + len(rows)))
    assert splits.assign(moved, split).tolist() == first.tolist()
    assert splits.assign(rows, specs.Split(validation=0.3, seed=1)).tolist() != first.tolist()


def test_no_dependence_on_the_process_hash_seed():
    code = (
        "from tests.dataset.test_splits import *; rows = table(50);"
        "twins = [['1_left', '2_left', '3_right']];"
        "rows['split'] = splits.assign(rows, specs.Split(validation=.3, test=.2), twins);"
        "shards = dict(splits.shard_rows(rows, shard_examples=7));"
        "text = ';'.join(f'{k}:{list(v.id)}' for k, v in shards.items());"
        "print(hashlib.sha256(text.encode()).hexdigest())"
    )
    printed = set()
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.getcwd()}
        printed.add(subprocess.check_output([sys.executable, "-c", code], env=environment))
    assert len(printed) == 1


@pytest.mark.parametrize("method", ["patient", "image"])
def test_rare_labels_do_not_stop_the_split(method):
    rows = table(20, labels=1)
    rows.loc[3, "label"] = 4
    made = splits.assign(rows, specs.Split(method=method, validation=0.2, test=0.2))
    assert set(made) == set(splits.SPLITS)


def test_too_few_patients_are_refused():
    with pytest.raises(ValueError, match="too few"):
        splits.assign(table(1), specs.Split())


@pytest.mark.parametrize(
    "pattern, expected",
    [
        ("", ["10_left", "10_right", "odd"]),
        (r"^(.+)_(?:left|right)$", ["10", "10", "odd"]),
        (r"^(?P<patient>\d+)_", ["10", "10", "odd"]),
    ],
)
def test_patients(pattern, expected):
    assert splits.patients(pd.Series(["10_left", "10_right", "odd"]), pattern).tolist() == expected


def test_shards_hold_every_row_once_and_no_more_than_allowed():
    rows = table(100)
    rows["split"] = splits.assign(rows, specs.Split(validation=0.3))
    shards = dict(splits.shard_rows(rows, shard_examples=9))
    assert sorted(i for shard in shards.values() for i in shard["id"]) == sorted(rows["id"])
    for name, shard in shards.items():
        split, label = name.split(".")[0].split("-")
        assert 0 < len(shard) <= 9 and shard["id"].is_monotonic_increasing
        assert set(shard["split"]) == {split} and set(shard["label"]) == {int(label)}
        siblings = [n for n in shards if n.startswith(f"{split}-{label}.")]
        assert name.endswith(f"-of-{len(siblings):05d}")
        sizes = [len(shards[n]) for n in siblings]
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("seed", range(5))
def test_the_image_split_reunites_twins_and_keeps_every_count(seed):
    ids = [f"i{n}" for n in range(60)]
    rows = pd.DataFrame({"id": ids, "patient": ids, "label": [n % 3 for n in range(60)]})
    split = specs.Split(method="image", validation=0.3, test=0.2, strata=(0, 1, 1), seed=seed)
    twins = [[f"i{n}", f"i{n + 13}"] for n in range(0, 12, 2)]
    plain = splits.assign(rows, split)
    made = splits.assign(rows, split, twins)
    of = dict(zip(rows["id"], made, strict=True))
    assert all(len({of[i] for i in group}) == 1 for group in twins)
    before = dict(zip(rows["id"], plain, strict=True))
    assert any(len({before[i] for i in group}) > 1 for group in twins)
    for stratum in ([0], [1, 2]):
        members = rows["label"].isin(stratum)
        assert made[members].value_counts().equals(plain[members].value_counts())


def test_by_hash_two_patients_are_where_blake2b_puts_them():
    # blake2b-64 of split<US>42<US>10 is 3dfc3f15..., which is .242 of 2^64; of ...11, .778.
    for patient, place in (("10", 0x3DFC3F159ED864EC), ("11", 0xC733019F1AF5857F)):
        digest = hashlib.blake2b(f"split\x1f42\x1f{patient}".encode(), digest_size=8).digest()
        assert int.from_bytes(digest, "big") == place
    rows = pd.DataFrame({"id": ["a", "b"], "patient": ["10", "11"], "label": [0, 1]})

    def made(test: float, validation: float) -> list[str]:
        split = specs.Split(method="hash", test=test, validation=validation, seed=42)
        return splits.assign(rows, split).tolist()

    assert made(0.25, 0.1) == ["test", "train"]
    assert made(0.24, 0.1) == ["validation", "train"]
    assert made(0.2, 0.6) == ["validation", "validation"]
    assert made(0.0, 0.24) == ["train", "train"]


def test_by_hash_growth_moves_nobody():
    rows = table(500)
    split = specs.Split(method="hash", validation=0.2, test=0.1)
    whole = splits.assign(rows, split)
    few = rows.sample(frac=0.2, random_state=0)
    assert splits.assign(few, split).tolist() == whole[few.index].tolist()
    other = few.assign(label=0)  # Nor do labels matter.
    assert splits.assign(other, split).tolist() == whole[few.index].tolist()
    assert (whole.groupby(rows["patient"]).nunique() == 1).all()  # Both eyes together.
    another_seed = specs.Split(method="hash", validation=0.2, test=0.1, seed=1)
    assert splits.assign(rows, another_seed).tolist() != whole.tolist()


def test_by_hash_the_fractions_hold_within_sampling_error():
    rows = table(20_000)
    made = splits.assign(rows, specs.Split(method="hash", validation=0.2, test=0.1))
    sizes = made.value_counts(normalize=True)
    for name, fraction in (("train", 0.7), ("validation", 0.2), ("test", 0.1)):
        error = np.sqrt(fraction * (1 - fraction) / 20_000)
        assert sizes[name] == pytest.approx(fraction, abs=4 * error)
