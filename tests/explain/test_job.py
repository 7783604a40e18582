"""The explain job and the reading of raw photographs, on tiny data and an untrained bundle."""

import dataclasses
import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import keras
import numpy as np
import pandas as pd
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from beam_jobs.explain import heatmap_shards, job, published_figures, units
from beam_jobs.runners import beam_flags
from dr_tfx.dataset import manifest, records
from dr_tfx.explanation import explainer, photographs
from dr_tfx.inference import scoring
from dr_tfx.models import bundles
from tests.helpers import datasets, terminal
from tests.helpers.drawn import draw

ROOT = Path(__file__).parents[2]
FIGURES = ("gradcam_final.png", "gradcam_normal.png", "gradcam_abnormal.png")


def tiny_model(size):
    inputs = keras.Input((size, size, 3))
    x = keras.layers.Rescaling(1 / 255)(inputs)
    x = keras.layers.Conv2D(4, 3, strides=4, padding="same", activation="relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid")(x))


def make_bundle(folder, experiment, data, *, seed=0):
    folder.mkdir()
    keras.utils.set_random_seed(seed)
    model = tiny_model(experiment.dataset.recipe.size)
    bundles.save(folder, model, experiment=experiment, data=data, precision="float32", best_epoch=1)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(workdir, data_dir, manifest, experiment), read only."""
    base = tmp_path_factory.mktemp("explain")
    experiment = datasets.experiment(encoding="png")
    evaluation = dataclasses.replace(
        experiment.evaluation, batch_size=3, views=("identity", "left_right")
    )
    experiment = dataclasses.replace(experiment, evaluation=evaluation)
    data = datasets.write(base / "data", experiment.dataset, shard_examples=4)
    workdir = make_bundle(base / "run", experiment, data)
    bundles.save_fitted(workdir, datasets.fitted(0.45))
    return workdir, base / "data", data, experiment


def run(made, output_dir, *, beam_args=(), **changes):
    arguments = {"workdir": made[0], "data_dir": made[1], "split": "validation"} | changes
    request = job.Request(output_dir=output_dir, **arguments)
    return job.explain(request, PipelineOptions(list(beam_args)))


def contents(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def explained(made, tmp_path_factory):
    return run(made, tmp_path_factory.mktemp("out"))


def test_heat_maps_and_scores_are_those_of_the_model(made, explained):
    workdir, data_dir, data, _ = made
    bundle = bundles.load(workdir)
    explain = explainer.Explainer(bundle)
    index = pd.read_csv(explained / "index.csv", index_col="id")
    seen = 0
    for shard in data.shards_of("validation"):
        with (data_dir / shard.name).open("rb") as stream:
            examples = [records.parse(record) for record in records.read(stream)]
        encoded = [np.frombuffer(example[records.IMAGE_ENCODED], np.uint8) for example in examples]
        rgb = np.stack([cv2.imdecode(png, cv2.IMREAD_COLOR)[..., ::-1] for png in encoded])
        scores = scoring.view_scorer(bundle)(rgb).numpy().mean(axis=1)
        expected = zip(explain(rgb)[0], scores, strict=True)
        rows = heatmap_shards.read(heatmap_shards.path(explained, shard.name))
        for example, (name, heatmap, score), (map_, probability) in zip(
            examples, rows, expected, strict=True
        ):
            assert name == example[records.IMAGE_ID].decode()
            np.testing.assert_allclose(heatmap, map_, atol=1e-5)
            assert score == pytest.approx(probability, abs=1e-6)
            row = index.loc[name]
            assert (row["label"], row["target"]) == (shard.label, min(shard.label, 1))
            assert row["score"] == pytest.approx(probability, abs=1e-9)
            assert row["decision"] == ("positive" if probability >= 0.45 else "negative")
            assert row["shard"] == shard.name
            seen += 1
    assert seen == len(index) == sum(datasets.COUNTS["validation"])


def test_the_index_is_sorted_and_the_figures_are_there(explained):
    index = pd.read_csv(explained / "index.csv")
    assert " ".join(index.columns) == "id label target score decision shard overlay outside"
    assert index["id"].is_monotonic_increasing
    heights = [cv2.imread(str(explained / name)).shape[0] for name in FIGURES]
    assert heights[0] > 1.7 * heights[1] and heights[1] == heights[2]
    assert not list(explained.rglob("*.tmp"))


def test_overlays_have_the_size_of_what_is_stored(made, explained):
    index = pd.read_csv(explained / "index.csv")
    assert index["overlay"].nunique() == len(index)
    for row in index.itertuples():
        assert row.overlay == f"overlays/{row.shard}/{row.id}.png"
        assert cv2.imread(str(explained / row.overlay)).shape == (32, 32, 3)
    assert len(list(explained.rglob("*.png"))) == len(index) + len(FIGURES)


def test_another_runner_layout_writes_the_same_bytes(made, explained, tmp_path):
    threads = ["--direct_num_workers=2", "--direct_running_mode=multi_threading"]
    assert contents(run(made, tmp_path, beam_args=threads)) == contents(explained)


def test_a_dask_cluster_writes_the_same_bytes(made, explained, tmp_path):
    distributed = pytest.importorskip("distributed", reason="needs pip install 'dr_tfx[dask]'")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
    ) as cluster:
        address = f"--dask_client_address={cluster.scheduler_address}"
        beam_args = ["--runner=DaskRunner", address]
        beam_flags.options(beam_args)  # Which makes Beam know the second.
        run(made, tmp_path, beam_args=beam_args)
    assert contents(tmp_path) == contents(explained)


def test_a_rerun_does_only_what_is_missing(made, tmp_path):
    run(made, tmp_path)
    before = contents(tmp_path)
    first, *others = made[2].shards_of("validation")
    heatmap_shards.index_path(tmp_path, first.name).unlink()
    (tmp_path / "gradcam_final.png").unlink()
    times = {s.name: heatmap_shards.path(tmp_path, s.name).stat().st_mtime_ns for s in others}
    run(made, tmp_path)
    assert contents(tmp_path) == before
    assert times == {
        s.name: heatmap_shards.path(tmp_path, s.name).stat().st_mtime_ns for s in others
    }


def test_a_new_threshold_changes_decisions_only(made, tmp_path):
    workdir = make_bundle(tmp_path / "run", made[3], made[2])
    index = pd.read_csv(run(made, tmp_path / "out", workdir=workdir) / "index.csv")
    bundles.save_fitted(workdir, datasets.fitted(0.999))
    again = pd.read_csv(run(made, tmp_path / "out", workdir=workdir) / "index.csv")
    assert set(again["decision"]) == {"negative"}
    pd.testing.assert_frame_equal(again.drop(columns="decision"), index.drop(columns="decision"))


def test_the_folder_of_another_model_is_refused(made, tmp_path):
    run(made, tmp_path / "out")
    other = make_bundle(tmp_path / "run", made[3], made[2], seed=1)
    before = contents(tmp_path / "out")
    with pytest.raises(ValueError, match=r"model differs.*--overwrite"):
        run(made, tmp_path / "out", workdir=other)
    with pytest.raises(ValueError, match="split differs"):
        run(made, tmp_path / "out", split="train")
    assert contents(tmp_path / "out") == before
    run(made, tmp_path / "out", workdir=other, overwrite=True)
    after = contents(tmp_path / "out")
    assert set(after) == set(before) and after["index.csv"] != before["index.csv"]


def test_the_photographs_shown_do_not_depend_on_scores(made, explained, tmp_path, monkeypatch):
    copy = shutil.copytree(explained, tmp_path / "copy")
    shown = {}

    def draw(rows, *, title, colormap):
        shown[title] = [row.caption for row in rows]
        return b""

    monkeypatch.setattr(published_figures.figures, "draw", draw)
    index = pd.read_csv(explained / "index.csv")
    index = index[(index["target"] == 0) | (index["id"] == index[index["target"] == 1]["id"].min())]
    published_figures.write(
        index,
        units.parts_of_split(made[2], "validation"),
        units.Shards(made[1], 32),
        output_dir=copy,
        class_names=made[3].task.class_names,
        method="Grad-CAM",
        colormap="jet",
    )
    negative = index[index["target"] == 0]["id"]
    expected = sorted(negative, key=lambda name: hashlib.sha256(name.encode()).hexdigest())[:3]
    assert [caption.split()[0] for caption in shown["Grad-CAM: negative"]] == expected
    assert len(shown["Grad-CAM: positive"]) == 1  # Fewer than three: what there is.
    assert len(shown["Grad-CAM: negative and positive"]) == 4


def test_damaged_or_foreign_data_is_refused(made, tmp_path):
    with pytest.raises(ValueError, match="no examples in split 'test'"):
        run(made, tmp_path / "out", split="test")
    with pytest.raises(FileNotFoundError, match="no finished training"):
        run(made, tmp_path / "out", workdir=tmp_path)
    other = datasets.experiment(size=48)
    datasets.write(tmp_path / "other", other.dataset)
    with pytest.raises(ValueError, match=r"recipe\.size"):
        run(made, tmp_path / "out", data_dir=tmp_path / "other")
    data = datasets.write(tmp_path / "data", made[3].dataset)
    shard = tmp_path / "data" / data.shards_of("validation")[0].name
    content = bytearray(shard.read_bytes())
    content[60] ^= 255
    shard.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{shard.name}.*damaged"):
        run(made, tmp_path / "out", data_dir=tmp_path / "data")


def test_the_runner_is_local_and_unknown_flags_are_errors():
    for flags in ([], ["--runner=DirectRunner"], ["--runner=direct", "--direct_num_workers=2"]):
        assert type(beam_flags.create(beam_flags.options(flags))).__name__ == "FnApiRunner"
    with pytest.raises(ValueError, match="--direct_num_worker=2"):
        beam_flags.options(["--direct_num_worker=2"])
    with pytest.raises(ValueError, match="invalid int"):
        beam_flags.options(["--direct_num_workers=two"])
    with pytest.raises(ValueError, match="NoRunner"):
        beam_flags.options(["--runner=NoRunner"])


def test_photographs_of_the_training_are_known_whatever_they_are_called(raw, built, tmp_path):
    data = manifest.load(built)
    experiment = dataclasses.replace(datasets.experiment(), dataset=data.dataset)
    made = make_bundle(tmp_path / "run", experiment, data), built
    names = {"train": [], "validation": []}
    for shard in data.shards:
        with (built / shard.name).open("rb") as stream:
            examples = map(records.parse, records.read(stream))
            names[shard.split] += [example[records.IMAGE_ID].decode() for example in examples]
    given = {"a": names["train"][0], "b": names["train"][-1], "c": names["validation"][0]}
    (tmp_path / "given").mkdir()
    for new, old in given.items():
        shutil.copy(raw / f"{old}.jpeg", tmp_path / "given" / f"{new}.jpeg")
    cv2.imwrite(str(tmp_path / "given" / "d.png"), draw(99))
    out = run(made, tmp_path / "out", image_dir=str(tmp_path / "given"))
    index = pd.read_csv(out / "index.csv", index_col="id", keep_default_na=False)
    split_of = {"a": "train", "b": "train", "c": "validation", "d": ""}
    assert index["training_split"].to_dict() == split_of
    page = (out / "index.html").read_text()
    assert "The model was trained on 2 of these photographs" in page and "here 2 of 4" in page
    assert f"validation split, c = {given['c']}." in page and "was not looked for" not in page
    before = contents(out)
    run(made, out, image_dir=str(tmp_path / "given"), data_dir=None)
    assert "was not looked for" in (out / "index.html").read_text()
    assert contents(out) == before | {
        name: contents(out)[name] for name in ("index.html", "index.csv")
    }


def test_the_split_of_the_training_is_said_to_flatter(made, explained, tmp_path):
    said = "The model was trained on these photographs"
    assert said in (run(made, tmp_path, split="train") / "index.html").read_text()
    assert said not in (explained / "index.html").read_text()


def test_progress_is_shown_while_a_part_is_explained(made, tmp_path):
    cv2.imwrite(str(tmp_path / "0.png"), draw(0, width=2400, height=2400))
    for i in range(1, 24):
        (tmp_path / f"{i}.png").hardlink_to(tmp_path / "0.png")
    words = [sys.executable, "-m", "beam_jobs.cli.explain", f"--workdir={made[0]}"]
    words += [f"--image_dir={tmp_path}", f"--output_dir={tmp_path / 'out'}"]
    code, said = terminal.run(words, size=(0, 0))
    assert code == 0, said.decode()
    done = [int(number) for number in re.findall(rb"explain: .*?(\d+)/24 \[", said)]
    assert done == sorted(done) and (done[0], done[-1]) == (0, 24)
    assert any(0 < number < 24 for number in done)  # All are of one part.
    assert b"photograph/s" in said
    assert not list((tmp_path / "out").glob("*.live"))


@pytest.fixture
def folder(tmp_path):
    """A photograph, an empty one, a text file and a second with the first one's stem."""
    folder = tmp_path / "photographs"
    (folder / "b").mkdir(parents=True)
    (folder / "empty").mkdir()
    picture = np.zeros((80, 100, 3), np.uint8)
    cv2.circle(picture, (50, 40), 36, (40, 90, 190), -1)
    cv2.imwrite(str(folder / "eye.jpeg"), picture)
    cv2.imwrite(str(folder / "b" / "eye.png"), picture[:, ::-1])
    cv2.imwrite(str(folder / "black.png"), np.zeros_like(picture))
    (folder / "broken.jpg").write_text("no photograph")
    return folder


def with_gate(bundle, gate):
    experiment = bundle.experiment
    recipe = dataclasses.replace(experiment.dataset.recipe, quality_gate=gate)
    dataset = dataclasses.replace(experiment.dataset, recipe=recipe)
    return dataclasses.replace(bundle, experiment=dataclasses.replace(experiment, dataset=dataset))


def test_an_ungradable_photograph_is_scored_where_the_recipe_only_counts(made, folder, tmp_path):
    loaded = bundles.load(made[0])
    black = folder / "black.png"
    for gate, expected in (("count", "black"), ("off", "")):
        (reading,) = photographs.read_all(with_gate(loaded, gate), [black], output_dir=tmp_path)
        assert (reading.rejected, reading.ungradable) == ("", expected)
        assert 0 <= reading.score <= 1 and (tmp_path / reading.figure).is_file()


def test_photographs_are_read_and_rejected_in_order(made, folder, tmp_path):
    bundle = with_gate(bundles.load(made[0]), "reject")
    paths = photographs.find([str(folder), str(folder / "b"), str(folder / "empty"), "none.png"])
    readings = list(photographs.read_all(bundle, paths, output_dir=tmp_path / "out"))
    assert [Path(r.photo).name for r in readings] == [
        "black.png",
        "broken.jpg",
        "eye.jpeg",
        "eye.png",
        "empty",
        "none.png",
    ]
    assert readings[0].rejected.startswith("ungradable:black: brightness 0")
    assert [r.rejected.split(":")[0] for r in readings] == [
        "ungradable",
        "unreadable",
        "",
        "",
        "no photographs in this folder",
        "no such file",
    ]
    left, right = readings[2:4]
    assert (left.figure, right.figure) == ("eye.png", "eye-2.png")
    rgb = photographs.recipes.apply_recipe(
        paths[2].read_bytes(), bundle.experiment.dataset.recipe
    ).rgb
    score = scoring.view_scorer(bundle)(rgb[None]).numpy().mean()
    assert left.score == pytest.approx(score, abs=1e-6)
    assert left.decision == ("positive" if left.score >= 0.45 else "negative")
    odds = (left.score / (1 - left.score)) ** (1 / 1.5)  # The temperature of `datasets.fitted`.
    assert left.probability == pytest.approx(odds / (1 + odds), abs=1e-9)
    assert cv2.imread(str(tmp_path / "out" / "eye-2.png")) is not None
    table = pd.read_csv(photographs.write_table(readings, tmp_path / "out"))
    for column in ("probability", "score"):
        assert table[column].isna().tolist() == [True, True, False, False, True, True]


def test_without_a_calibration_there_is_a_score_and_no_probability(made, folder, tmp_path):
    bundle = dataclasses.replace(bundles.load(made[0]), fitted=None)
    (reading,) = photographs.read_all(bundle, [folder / "eye.jpeg"], output_dir=tmp_path)
    assert reading.probability is None and 0 < reading.score < 1
    assert reading.threshold == 0.5


def test_a_model_of_pictures_prepared_elsewhere_reads_no_photographs(made, folder, tmp_path):
    loaded = bundles.load(made[0])
    arrays = dataclasses.replace(loaded.manifest, prepared="elsewhere")
    with pytest.raises(ValueError, match=r"prepared outside of dr_tfx.*build the data set from"):
        photographs.read_all(
            dataclasses.replace(loaded, manifest=arrays),
            [folder / "eye.png"],
            output_dir=tmp_path / "out",
        )
    assert not (tmp_path / "out").exists()


def test_the_predict_command(made, folder, tmp_path):
    def start(photographs, out):
        command = [sys.executable, "-m", "dr_tfx.cli.predict", f"--workdir={made[0]}"]
        command += [str(photographs), f"--output_dir={tmp_path / out}"]
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)

    some, none = start(folder, "some"), start("nothing.png", "none")
    printed = some.communicate()[0]
    assert some.returncode == 0 and printed.splitlines()[-1] == str(tmp_path / "some")
    assert "rejected (unreadable" in printed and "(threshold of the score 0.450)" in printed
    assert "(threshold of the score 0.450, ungradable: black)" in printed
    table = pd.read_csv(tmp_path / "some" / "predictions.csv").set_index("photo")
    assert len(table) == 3
    row = table.loc[str(folder / "eye.jpeg")]
    lines = printed.splitlines()
    assert lines[0].split() == ["photograph", "probability", "score", "decision"]
    words = next(line for line in lines if "eye.jpeg" in line).split()
    assert words[1:4] == [f"{row['probability']:.3f}", f"{row['score']:.3f}", row["decision"]]
    assert "no such file" in none.communicate()[0] and none.returncode == 1


def test_the_explain_command(made, explained, tmp_path):
    command = [sys.executable, "-m", "beam_jobs.cli.explain", "--runner", "DirectRunner"]
    command += [f"--workdir={made[0]}", f"--data_dir={made[1]}", f"--output_dir={tmp_path}"]
    processes = ["--direct_running_mode=multi_processing", "--direct_num_workers=1"]
    done = subprocess.run(
        [*command, *processes], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == str(tmp_path)
    assert contents(tmp_path) == contents(explained)
    wrong = subprocess.run([*command, "--direkt=1"], cwd=ROOT, capture_output=True, text=True)
    assert wrong.returncode == 1 and "Traceback" not in wrong.stderr
    assert wrong.stderr.splitlines()[-1].startswith("error: neither this command nor Apache Beam")
