"""Folds: dealt evenly, by patient and stratum, and seen through the view of one run."""

import dataclasses
import json

import numpy as np
import pytest
from sklearn.model_selection import StratifiedKFold

from dr_tfx.config import specs, typed
from dr_tfx.dataset import folds, identities, leakage, manifest, splits
from tests.dataset.test_splits import table

FIVE = specs.Split(folds=5)


def test_patients_are_dealt_as_scikit_learn_deals_their_worst_labels():
    rows = table(203)
    made = splits.assign(rows, FIVE)
    assert made.cat.categories.tolist() == [f"fold-{k}" for k in range(5)]
    worst = rows.groupby("patient", sort=False)["label"].max()
    expected = StratifiedKFold(5, shuffle=True, random_state=42).split(worst, worst)
    for name, (_, members) in zip(made.cat.categories, expected, strict=True):
        assert set(rows["patient"][made == name]) == set(worst.index[members])
    sizes = made.value_counts().tolist()
    assert sum(sizes) == 406 and max(sizes) - min(sizes) <= 2  # One patient.
    for _, members in worst.groupby(worst):
        by_fold = made[rows["patient"].isin(members.index)].value_counts() / 2
        assert by_fold.max() - by_fold.min() <= 1


@pytest.mark.parametrize("method", ["patient", "hash"])
def test_a_patient_is_in_one_fold_and_the_seed_decides(method):
    rows = table(300)
    split = specs.Split(method=method, folds=4)
    made = splits.assign(rows, split)
    assert (made.astype(str).groupby(rows["patient"]).nunique() == 1).all()
    assert made.value_counts().min() > 100
    assert made.equals(splits.assign(rows, split))
    assert not made.equals(splits.assign(rows, dataclasses.replace(split, seed=1)))


def test_a_fold_by_hash_is_that_of_the_patient_alone():
    rows, split = table(300), specs.Split(method="hash", folds=4)
    whole, half = splits.assign(rows, split), splits.assign(rows[:300], split)
    assert half.tolist() == whole[:300].tolist()
    place = splits.stable_hashes(rows["patient"], "split", 42) / 2.0**64
    assert whole.cat.codes.tolist() == np.floor(4 * place).astype(int).tolist()


def test_patients_who_share_a_photograph_are_in_one_fold():
    rows = table(60)
    made = splits.assign(rows, FIVE, [["0_left", "17_right"], ["17_left", "33_left", "5_right"]])
    together = made[rows["patient"].isin(["0", "17", "33", "5"])]
    assert together.nunique() == 1 and len(together) == 8


def test_rare_labels_are_dealt_without_a_warning(recwarn):
    rows = table(9, labels=2)
    rows["label"] = [0] * 16 + [1] * 2  # One patient is of the rare label.
    assert splits.assign(rows, FIVE).nunique() == 5
    rows["label"] = np.arange(18) // 2  # No label has as many patients as there are folds.
    assert splits.assign(rows, FIVE).nunique() == 5
    assert not recwarn.list
    with pytest.raises(ValueError, match="4 patients are too few for 5 folds"):
        splits.assign(rows[:8], FIVE)


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ({"folds": 2}, "0 for none, or 3 to 100"),
        ({"folds": 5, "method": "image"}, "'image'; folds are dealt by 'patient' or 'hash'"),
        ({"folds": 5, "method": "column"}, "'column'; folds are dealt by 'patient' or 'hash'"),
        ({"folds": 5, "method": "external"}, "folds are dealt by 'patient' or 'hash'"),
        ({"folds": 5, "test": 0.1}, "set test to 0, as every photograph is tested in its turn"),
    ],
)
def test_what_folds_contradict_is_refused(split, message):
    with pytest.raises(typed.ConfigError, match=message):
        specs.read_dataset({"split": split})


def test_each_fold_is_tested_once_and_selects_once():
    data = dealt()
    seen = [folds.roles(data, fold) for fold in range(3)]
    assert seen == [
        {"fold-0": "test", "fold-1": "validation", "fold-2": "train"},
        {"fold-0": "train", "fold-1": "test", "fold-2": "validation"},
        {"fold-0": "validation", "fold-1": "train", "fold-2": "test"},
    ]


def test_a_view_is_a_data_set_with_the_usual_splits():
    data = dealt()
    view = folds.view(data, 2, where="DATA")
    assert view.counts == {
        "train": {"a": 3, "b": 4},
        "validation": {"a": 1, "b": 2},
        "test": {"a": 5, "b": 6},
    }
    assert view.patients == {"train": 2, "validation": 1, "test": 3}
    assert [shard.name for shard in view.shards_of("validation")] == ["fold-0-0", "fold-0-1"]
    assert view.twins[0]["splits"] == ["train", "test"]
    assert leakage.within(view.to_dict())["twins"] == [view.twins[0]]
    assert leakage.alarms(leakage.within(view.to_dict()))
    train_only = folds.view(data, 0, where="DATA").twins[0]["splits"]
    assert train_only == ["validation", "train"]
    assert manifest.from_dict(json.loads(view.to_json())) == view
    with pytest.raises(ValueError, match="no examples in split 'train'; it has fold-0, fold-1"):
        data.shards_of("train")


def test_photographs_of_a_view_are_recognised_by_its_splits():
    known = identities.collect(
        identities.PhotographIdentity(f"p{k}", "", f"fold-{k}", bytes(16), bytes(1024))
        for k in (0, 1, 2, 1)
    )
    view = folds.view(dealt(), 1, where="DATA")
    seen = known.in_view(view)
    assert seen.text("split").tolist() == ["train", "test", "validation", "test"]
    assert seen.text("id").tolist() == ["p0", "p1", "p2", "p1"]


def test_models_of_all_folds_together_were_trained_on_everything(tmp_path):
    whole = folds.every(dealt())
    assert (
        whole
        == folds.every(folds.view(dealt(), 2, where="DATA"))
        == dataclasses.replace(whole, fold=manifest.EVERY_FOLD)
    )
    assert whole.counts == {"train": {"a": 9, "b": 12}} and whole.patients == {"train": 6}
    assert len(whole.shards_of("train")) == 6 and whole.twins[0]["splits"] == ["train", "train"]
    assert manifest.from_dict(json.loads(whole.to_json())) == whole
    for shard in dealt().shards:
        (tmp_path / shard.name).write_bytes(bytes(shard.bytes))
    (tmp_path / manifest.FILE_NAME).write_text(dealt().to_json())
    assert folds.load_trained_on(whole, tmp_path) == whole
    known = identities.collect(
        identities.PhotographIdentity(f"p{k}", "", f"fold-{k}", bytes(16), bytes(1024))
        for k in range(3)
    )
    assert known.in_view(whole).text("split").tolist() == 3 * ["train"]


@pytest.mark.parametrize(("fold", "folds_of"), [(-1, 3), (-2, 3), (3, 3), (0, 0)])
def test_a_view_that_there_is_not_is_refused(fold, folds_of):
    data = dealt() if folds_of else dataclasses.replace(dealt(), dataset=spec(0))
    message = "DATA has 3 folds. Say which" if folds_of else "DATA has no folds, of which --fold=0"
    with pytest.raises(ValueError, match=message):
        folds.view(data, fold, where="DATA")


def test_a_manifest_with_other_splits_than_its_folds_is_refused():
    plain = dealt().to_dict()
    plain["shards"][0]["split"] = "train"
    with pytest.raises(ValueError, match="has the split .'train'.; expected fold-0, fold-1"):
        manifest.from_dict(plain)


def test_a_view_is_no_data_set():
    text = folds.view(dealt(), 2, where="DATA").to_json()
    with pytest.raises(ValueError, match="DATA/dataset.json is of a run on fold 2"):
        manifest.parse(text, sizes={}, where="DATA")


def spec(count: int = 3) -> specs.DatasetSpec:
    return specs.DatasetSpec(label_names=("a", "b"), split=specs.Split(folds=count))


def dealt() -> manifest.Manifest:
    """1 to 6 photographs of 2 labels in 3 folds, of 1 to 3 patients."""
    shards = tuple(
        manifest.Shard(f"fold-{k}-{label}", f"fold-{k}", label, 2 * k + label + 1, 1000, "")
        for k in range(3)
        for label in range(2)
    )
    return manifest.Manifest(
        dataset=spec(),
        fingerprint="test",
        libraries={},
        rows=21,
        written=21,
        rejected={},
        counts={f"fold-{k}": {"a": 2 * k + 1, "b": 2 * k + 2} for k in range(3)},
        patients={f"fold-{k}": k + 1 for k in range(3)},
        shared_patients=0,
        twins=({"ids": ["x", "y"], "labels": [0, 0], "splits": ["fold-1", "fold-2"]},),
        unlabelled=0,
        shards=shards,
    )
