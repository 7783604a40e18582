"""Copies of one photograph under other names are kept together, however they were made."""

import dataclasses
import itertools
import shutil

import cv2
import numpy as np
import pytest

from beam_jobs.build_examples import destination, job
from dr_tfx.config import specs
from dr_tfx.dataset import identities, manifest, records
from dr_tfx.preprocessing import recipes
from tests.helpers.builds import SPEC, build, contents
from tests.helpers.drawn import encode

ORIGINAL = "10_left"


def resize_into(folder, name, factor=2):
    """Write the original at another size over another photograph."""
    image = cv2.imread(str(folder / f"{ORIGINAL}.jpeg"))
    larger = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    (folder / f"{name}.jpeg").write_bytes(encode(larger))


def split_of(folder) -> dict[str, str]:
    found = {}
    for shard in manifest.load(folder).shards:
        with (folder / shard.name).open("rb") as stream:
            for record in records.read(stream):
                found[records.parse(record)["image/id"].decode()] = shard.split
    return found


@pytest.fixture(scope="module")
def parted(raw, built) -> str:
    """A photograph that lies in another split than the original."""
    splits = split_of(built)
    return next(name for name, split in splits.items() if split != splits[ORIGINAL])


@pytest.fixture
def given(copy, parted):
    resize_into(copy, parted)
    return copy


@pytest.mark.parametrize(
    "split",
    [
        specs.Split(method="patient", validation=0.25),
        specs.Split(method="image", validation=0.25),
        specs.Split(folds=19),  # The patients of the copies are together, one each in other folds.
    ],
    ids=["patient", "image", "folds"],
)
def test_a_copy_of_another_size_is_in_the_split_of_the_original(
    given, parted, tmp_path, split, caplog
):
    spec = dataclasses.replace(SPEC, split=split)
    made = build(given, tmp_path / "out", spec=spec)
    splits = split_of(tmp_path / "out")
    assert len(splits) == made.written == 40 and made.twins == ()
    (twin,) = made.near_twins
    assert twin["ids"] == sorted([ORIGINAL, parted])
    assert twin["splits"] == [splits[name] for name in twin["ids"]]
    assert splits[parted] == splits[ORIGINAL]
    assert "1 groups of photographs are one photograph each" in caplog.text
    assert {shard.name.rsplit("-", 4)[0] for shard in made.shards} == set(splits.values())
    if split.folds:
        assert sorted(made.patients.values()) == [1] * 18 + [2]
    if split.method == "patient":
        assert made.shared_patients == 0
        patients = [{p: splits[f"{p}_{eye}"] for p in range(10, 30)} for eye in ("left", "right")]
        assert patients[0] == patients[1]
    assert build(given, tmp_path / "out", spec=spec) == made  # Nothing to do.
    (given / f"{parted}.jpeg").unlink()
    with pytest.raises(ValueError, match=r"names or sizes\) are not the same"):
        build(given, tmp_path / "out", spec=dataclasses.replace(spec, max_reject_rate=0.5))


def test_the_split_is_the_one_that_byte_identical_files_would_have(given, parted, copy, tmp_path):
    near = build(given, tmp_path / "near")
    shutil.copy(given / f"{ORIGINAL}.jpeg", given / f"{parted}.jpeg")
    identical = build(given, tmp_path / "identical")
    assert near.near_twins == identical.twins and identical.near_twins == near.twins == ()
    assert split_of(tmp_path / "near") == split_of(tmp_path / "identical")


def test_copies_that_the_split_has_together_change_nothing(copy, built, tmp_path, monkeypatch):
    splits = split_of(built)
    beside = next(n for n in splits if splits[n] == splits[ORIGINAL] and n[:2] != ORIGINAL[:2])
    resize_into(copy, beside)
    runs = []
    run = job._run
    monkeypatch.setattr(job, "_run", lambda *args: runs.append(len(args[0])) or run(*args))
    made = build(copy, tmp_path / "out")
    assert len(runs) == 1 and len(made.near_twins) == 1
    assert split_of(tmp_path / "out") == splits


def test_a_split_by_hash_reports_copies_that_it_parts(copy, tmp_path, caplog):
    spec = dataclasses.replace(SPEC, split=specs.Split(method="hash", validation=0.4))
    build(copy, tmp_path / "before", spec=spec)
    splits = split_of(tmp_path / "before")
    parted = next(name for name, split in splits.items() if split != splits[ORIGINAL])
    resize_into(copy, parted)
    made = build(copy, tmp_path / "out", spec=spec)
    (twin,) = made.near_twins
    assert sorted(twin["splits"]) == ["train", "validation"]
    assert "copies of one photograph" in caplog.text and "different splits" in caplog.text
    assert split_of(tmp_path / "out") == splits


def test_killed_between_and_within_the_rounds_it_ends_with_the_same_bytes(
    given, tmp_path, monkeypatch
):
    build(given, tmp_path / "straight")
    expected, run, note = contents(tmp_path / "straight"), job._run, destination.note_near_twins

    def killed(*_):
        raise KeyboardInterrupt

    def half(tasks, *others):
        run(tasks[: len(tasks) // 2], *others)
        raise KeyboardInterrupt

    out = tmp_path / "out"
    for step in itertools.chain([(half, note), (run, killed), (half, note), (half, note)]):
        monkeypatch.setattr(job, "_run", step[0])
        monkeypatch.setattr(destination, "note_near_twins", step[1])
        with pytest.raises(KeyboardInterrupt):
            build(given, out)
        assert not (out / "dataset.json").exists()
    monkeypatch.setattr(job, "_run", run)
    monkeypatch.setattr(destination, "note_near_twins", note)
    build(given, out)
    assert contents(out) == expected


def test_a_finished_data_set_without_its_identities_is_refused(raw, built, tmp_path):
    out = shutil.copytree(built, tmp_path / "out")
    (out / "photographs.arrow").unlink()
    with pytest.raises(FileNotFoundError, match=r"photographs.arrow is missing.*--overwrite"):
        build(raw, out)


def test_identities_are_those_of_the_examples(raw, built):
    known = identities.load(built, manifest.load(built))
    assert dict(zip(known.text("id"), known.text("split"), strict=True)) == split_of(built)
    assert known.text("patient").tolist() == [name[:2] for name in known.text("id")]
    for i in (0, 17, 39):
        data = (raw / f"{known.text('id')[i]}.jpeg").read_bytes()
        picture = recipes.apply_recipe(data, SPEC.recipe)
        assert known.pixels[i].tobytes() == records.digest(picture.rgb)
        assert known.fingerprints[i].tobytes() == picture.fingerprint


def test_rows_without_a_photograph_do_not_move_the_copies(given, parted, tmp_path):
    """The new split counts them, as the first one does."""
    (given / "15_left.jpeg").unlink()
    spec = dataclasses.replace(SPEC, max_reject_rate=0.5)
    build(given, tmp_path / "near", spec=spec)
    shutil.copy(given / f"{ORIGINAL}.jpeg", given / f"{parted}.jpeg")
    build(given, tmp_path / "identical", spec=spec)
    assert split_of(tmp_path / "near") == split_of(tmp_path / "identical")


def test_equal_rows_of_an_array_and_their_resized_copies(tmp_path):
    rng = np.random.default_rng(0)
    coarse = [rng.integers(0, 256, (8, 8, 3)).astype(np.uint8) for _ in range(12)]
    pictures = np.stack(
        [cv2.resize(one, (32, 32), interpolation=cv2.INTER_CUBIC) for one in coarse]
    )
    pictures[7] = np.clip(pictures[2].astype(int) + rng.integers(-3, 4, (32, 32, 3)), 0, 255)
    np.save(tmp_path / "X.npy", pictures)
    np.save(tmp_path / "y.npy", np.arange(12) % 3)
    made = job.build(
        SPEC,
        image_dir=str(tmp_path / "X.npy"),
        labels=str(tmp_path / "y.npy"),
        output_dir=str(tmp_path / "out"),
    )
    (twin,) = made.near_twins
    assert twin["ids"] == ["X-0000002", "X-0000007"] and len(set(twin["splits"])) == 1


def test_an_official_split_is_kept_and_what_it_parts_is_told(given, parted, tmp_path):
    lines = (given / "labels.csv").read_text().splitlines()
    rows = [f"{row},{'test' if row.startswith(parted) else 'train'}" for row in lines[1:]]
    (given / "labels.csv").write_text("\n".join([f"{lines[0]},part", *rows]) + "\n")
    spec = dataclasses.replace(SPEC, split=specs.Split(method="column", column="part"))
    made = build(given, tmp_path / "out", spec=spec)
    (twin,) = made.near_twins
    assert twin["ids"][twin["splits"].index("test")] == parted
    assert [name for name, split in split_of(tmp_path / "out").items() if split == "test"] == [
        parted
    ]
