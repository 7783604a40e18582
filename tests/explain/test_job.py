"""The explain job on a split of a tiny data set, with an untrained bundle."""

import dataclasses
import hashlib
import re
import shutil
import sys

import cv2
import numpy as np
import pandas as pd
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from beam_jobs.explain import heatmap_shards, job, plan, published_figures, results
from beam_jobs.runners import beam_flags, pipelines
from dr_tfx.dataset import manifest, records
from dr_tfx.explanation import explainer
from dr_tfx.inference import scoring
from dr_tfx.models import bundles
from tests.helpers import datasets, ready, terminal
from tests.helpers.bundled import contents, evaluated_bundle, make_bundle
from tests.helpers.drawn import draw

FIGURES = ("gradcam_final.png", "gradcam_normal.png", "gradcam_abnormal.png")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(workdir, data_dir, manifest, experiment), read only."""
    base = tmp_path_factory.mktemp("explain")
    workdir = evaluated_bundle(base)
    data = manifest.load(base / "data")
    return workdir, base / "data", data, bundles.load(workdir).experiment


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """(workdir, data_dir) for tests in which other processes load the model."""
    base = tmp_path_factory.mktemp("elsewhere")
    return evaluated_bundle(base, backbone="UNetEncoder"), base / "data"


@pytest.fixture(scope="module")
def explained_here(elsewhere, tmp_path_factory):
    return run(elsewhere, tmp_path_factory.mktemp("out"))


def run(made, output_dir, *, beam_args=(), **changes):
    arguments = {"workdir": made[0], "data_dir": made[1], "split": "validation"} | changes
    request = plan.ExplainRequest(output_dir=output_dir, **arguments)
    return job.explain(request, PipelineOptions(list(beam_args)))


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


def test_the_terminal_is_told_what_was_decided_how_often(explained):
    decided = pd.read_csv(explained / "index.csv")["decision"].value_counts()
    counts = ", ".join(f"{count} {name}" for name, count in decided.items())
    [sentence] = results.headline(explained)
    assert sentence == f"{decided.sum()} photographs: {counts}"


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


def test_a_dask_cluster_writes_the_same_bytes(elsewhere, explained_here, tmp_path):
    distributed = pytest.importorskip("distributed", reason="needs pip install 'dr_tfx[dask]'")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
    ) as cluster:
        address = f"--dask_client_address={cluster.scheduler_address}"
        beam_args = ["--runner=DaskRunner", address]
        beam_flags.options(beam_args)  # Which makes Beam know the second.
        run(elsewhere, tmp_path, beam_args=beam_args)
    assert contents(tmp_path) == contents(explained_here)


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

    def draw(rows, *, title, colormap, most):
        shown[title] = [row.caption for row in rows]
        return b""

    monkeypatch.setattr(published_figures.figures, "draw", draw)
    request = plan.ExplainRequest(workdir=made[0], data_dir=made[1], output_dir=copy)
    planned = plan.make(request, threads=1)
    joined = results.join(planned)
    index = joined.index
    index = index[(index["target"] == 0) | (index["id"] == index[index["target"] == 1]["id"].min())]
    published_figures.write(planned, dataclasses.replace(joined, index=index))
    negative = index[index["target"] == 0]["id"]
    expected = sorted(negative, key=lambda name: hashlib.sha256(name.encode()).hexdigest())[:3]
    assert [caption.split()[0] for caption in shown["Grad-CAM: negative"]] == expected
    assert len(shown["Grad-CAM: positive"]) == 1  # Fewer than three: what there is.
    assert len(shown["Grad-CAM: negative and positive"]) == 4
    row = index[index["id"] == expected[0]].iloc[0]
    caption = f"{row['id']}   truth negative   score {row['score']:.3f}   decision "
    assert shown["Grad-CAM: negative"][0] == caption + row["decision"]


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
    features = {"features": lambda number: {records.IMAGE_ID: f"../../../x{number}"}}
    datasets.write(tmp_path / "named", made[3].dataset, **features)
    with pytest.raises(ValueError, match="expected a name, or folders and a name"):
        run(made, tmp_path / "out", data_dir=tmp_path / "named")
    assert not list(tmp_path.rglob("x*.png"))


def test_files_of_somebody_else_are_left_as_they_are(made, tmp_path):
    (tmp_path / "index.csv").write_text("mine")
    with pytest.raises(FileExistsError, match="holds index.csv, which this command did not make"):
        run(made, tmp_path, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["index.csv"]
    assert (tmp_path / "index.csv").read_text() == "mine"


def test_the_runner_is_local_and_unknown_flags_are_errors():
    for flags in ([], ["--runner=DirectRunner"], ["--runner=direct", "--direct_num_workers=2"]):
        assert type(beam_flags.create(beam_flags.options(flags))).__name__ == "LocalRunner"
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
    # The second one in another size.
    image = cv2.imread(str(raw / f"{given['b']}.jpeg"))
    (tmp_path / "given" / "b.jpeg").unlink()
    cv2.imwrite(str(tmp_path / "given" / "b.png"), cv2.resize(image, (250, 188)))
    cv2.imwrite(str(tmp_path / "given" / "d.png"), draw(99))
    out = run(made, tmp_path / "out", image_dir=str(tmp_path / "given"))
    index = pd.read_csv(out / "index.csv", index_col="id", keep_default_na=False)
    split_of = {"a": "train", "b": "train", "c": "validation", "d": ""}
    assert index["training_split"].to_dict() == split_of
    page = (out / "index.html").read_text()
    assert "The model was trained on 2 of these photographs" in page and "here 2 of 4" in page
    assert (
        f"anew or cropped, c = {given['c']}." in page
        and "It is not known whether the model was trained" not in page
    )
    before = contents(out)
    run(made, out, image_dir=str(tmp_path / "given"), data_dir=None)
    assert "It is not known whether the model was trained" in (out / "index.html").read_text()
    assert contents(out) == before | {
        name: contents(out)[name] for name in ("index.html", "index.csv")
    }


def test_the_split_of_the_training_is_said_to_flatter(made, explained, tmp_path):
    said = "The model was trained on these photographs"
    assert said in (run(made, tmp_path, split="train") / "index.html").read_text()
    assert said not in (explained / "index.html").read_text()


def test_progress_is_shown_while_a_part_is_explained(elsewhere, tmp_path):
    cv2.imwrite(str(tmp_path / "0.png"), draw(0, width=2000, height=2000))
    for i in range(1, 14):
        (tmp_path / f"{i}.png").hardlink_to(tmp_path / "0.png")
    words = [sys.executable, "-m", "beam_jobs.cli.explain", f"--workdir={elsewhere[0]}"]
    words += [f"--image_dir={tmp_path}", f"--output_dir={tmp_path / 'out'}"]
    code, said = terminal.run(words, size=(0, 0))
    assert code == 0, said.decode()
    done = [int(number) for number in re.findall(rb"explain: .*?(\d+)/14 \[", said)]
    assert done == sorted(done) and (done[0], done[-1]) == (0, 14)
    assert any(0 < number < 14 for number in done)  # All are of one part.
    assert b"photograph/s" in said
    assert not list((tmp_path / "out").glob("*.live"))


def test_the_explain_command(elsewhere, explained_here, tmp_path):
    command = [sys.executable, "-m", "beam_jobs.cli.explain", "--runner", "DirectRunner"]
    command += [
        f"--workdir={elsewhere[0]}",
        f"--data_dir={elsewhere[1]}",
        f"--output_dir={tmp_path}",
    ]
    processes = ["--direct_running_mode=multi_processing", "--direct_num_workers=1"]
    done = ready.run([*command, *processes])
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(tmp_path)
    assert contents(tmp_path) == contents(explained_here)
    wrong = ready.run([*command, "--direkt=1"])
    assert wrong.returncode == 1 and "Traceback" not in wrong.stderr
    assert wrong.stderr.splitlines()[-1].startswith("error: neither this command nor Apache Beam")


@pytest.mark.parametrize(
    "before, behind", [("", ""), ("ValueError: ", " [while running 'ParDo(ExplainPart)']")]
)
def test_the_last_line_of_a_job_is_the_sentence_without_beams_words(before, behind):
    assert pipelines._BEAMS.sub("", f"{before}It is damaged.{behind}") == "It is damaged."
