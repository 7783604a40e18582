"""The explain job over raw photographs: overlays at full size, rejects, and measures with masks."""

import dataclasses
import json
import shutil
import zipfile

import cv2
import numpy as np
import pandas as pd
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from beam_jobs.explain import heatmap_shards, job, mask_measures, plan, results, units
from dr_tfx.config import specs
from dr_tfx.explanation import explainer, overlays
from dr_tfx.models import bundles
from dr_tfx.preprocessing import geometry, recipes
from tests.helpers import datasets
from tests.helpers.bundled import contents, make_bundle
from tests.helpers.drawn import draw

NAMES = [f"{patient}_{eye}" for patient in (1, 2, 3) for eye in ("left", "right")]
SIZE = 32


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A bundle that rejects photographs without a retina, and knows patients."""
    base = tmp_path_factory.mktemp("bundle")
    experiment = datasets.experiment(size=SIZE)
    recipe = dataclasses.replace(experiment.dataset.recipe, quality_gate="reject")
    dataset = dataclasses.replace(
        experiment.dataset, recipe=recipe, patient_pattern=r"^(\d+)_", label_column="level"
    )
    evaluation = dataclasses.replace(experiment.evaluation, batch_size=4)
    experiment = dataclasses.replace(experiment, dataset=dataset, evaluation=evaluation)
    data = datasets.write(base / "data", experiment.dataset)
    folder = make_bundle(base / "run", experiment, data)
    bundles.save_fitted(folder, datasets.fitted(0.5))
    return folder


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Six photographs of three patients, a black one and a text file; labels of four; masks."""
    folder = tmp_path_factory.mktemp("raw")
    for i, name in enumerate(NAMES):
        photograph = draw(i, width=200 + 10 * i, height=120)
        cv2.imwrite(str(folder / f"{name}.png"), photograph)
        for kind in ("EX", "OD"):
            mask = np.zeros(photograph.shape[:2], np.uint8)
            mask[50:60, 80:95] = 255
            path = folder / "masks" / kind / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind == "OD" or name != "3_right":
                cv2.imwrite(str(path), mask)
    cv2.imwrite(str(folder / "black.png"), np.zeros((50, 60, 3), np.uint8))
    (folder / "text.jpeg").write_text("no photograph")
    lines = ["image,level", *(f"{name},{i % 3}" for i, name in enumerate(NAMES[:4]))]
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


def run(workdir, raw, output_dir, *, beam_args=(), **changes):
    arguments = {"image_dir": str(raw), "labels": str(raw / "labels.csv")} | changes
    request = plan.ExplainRequest(workdir=workdir, output_dir=output_dir, **arguments)
    return job.explain(request, PipelineOptions(list(beam_args)))


@pytest.fixture(scope="module")
def explained(workdir, raw, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(units, "PHOTOGRAPHS", 3)
        return run(workdir, raw, tmp_path_factory.mktemp("out"))


def test_every_photograph_is_explained_or_rejected(workdir, raw, explained):
    index = pd.read_csv(explained / "index.csv", dtype={"label": "Int64", "target": "Int64"})
    assert index["id"].tolist() == NAMES
    assert index["label"].tolist() == [0, 1, 2, 0, pd.NA, pd.NA]
    assert index["target"].tolist() == [0, 1, 1, 0, pd.NA, pd.NA]
    assert index["photograph"].tolist() == [str(raw / f"{name}.png") for name in NAMES]
    rejects = pd.read_csv(explained / "rejects.csv")
    assert rejects["id"].tolist() == ["black", "text"]
    assert rejects["reason"].tolist() == ["ungradable:black", "unreadable"]
    bundle = bundles.load(workdir)
    recipe = bundle.experiment.dataset.recipe
    data = [(raw / f"{name}.png").read_bytes() for name in NAMES]
    rgb = np.stack([recipes.apply_recipe(photograph, recipe).rgb for photograph in data])
    maps, scores = explainer.Explainer(bundle)(rgb)
    np.testing.assert_allclose(index["score"], scores["score"], atol=1e-6)
    parts = [f"photographs-0000{i}-of-00003" for i in range(3)]  # The last is rejected as a whole.
    assert index["shard"].tolist() == [*parts[:1] * 3, *parts[1:2] * 3]
    found = [row for part in parts for row in heatmap_shards.read(explained / f"heatmaps-{part}")]
    assert [name for name, _, _ in found] == NAMES
    np.testing.assert_allclose([heatmap for _, heatmap, _ in found], maps, atol=1e-5)


def test_overlays_have_the_size_of_the_photograph(workdir, raw, explained):
    index = pd.read_csv(explained / "index.csv")
    row = index.iloc[3]
    photograph = cv2.imread(row["photograph"])
    overlay = cv2.imread(str(explained / row["overlay"]))
    assert overlay.shape == photograph.shape == (120, 230, 3)
    beside = explained / row["overlay"].replace("overlays", "photographs").replace(".png", ".jpg")
    assert cv2.PSNR(cv2.imread(str(beside)), photograph) > 30
    thumbnail = explained / row["overlay"].replace("overlays", "thumbnails")
    assert cv2.imread(str(thumbnail)).shape == (SIZE, SIZE, 3)
    # The map, resized to the square that was cut out of the photograph, at its place on it.
    _, heatmap, _ = next(
        found
        for found in heatmap_shards.read(explained / f"heatmaps-{row['shard']}")
        if found[0] == row["id"]
    )
    left, top, right, bottom = geometry.retina_box(photograph)
    side = max(right - left, bottom - top)
    x, y = left - (side - (right - left)) // 2, top - (side - (bottom - top)) // 2
    placed = np.zeros((120 + 2 * side, 230 + 2 * side), np.float32)
    placed[side + y : 2 * side + y, side + x : 2 * side + x] = cv2.resize(heatmap, (side, side))
    placed = placed[side : side + 120, side : side + 230]
    expected = overlays.overlay(photograph[..., ::-1], placed, colormap=specs.COLORMAPS[0])
    # The box was found at half the size: its edge, where colours jump, may be a pixel off.
    different = np.abs(expected.astype(int) - overlay[..., ::-1]).max(axis=2) > 10
    assert different.mean() < 0.04
    wrong = overlays.overlay(photograph[..., ::-1], heatmap, colormap=specs.COLORMAPS[0])
    assert (np.abs(wrong.astype(int) - overlay[..., ::-1]).max(axis=2) > 10).mean() > 0.2


def test_an_archive_in_threads_gives_the_same(workdir, raw, explained, tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "raw.zip", "w") as archive:
        for path in [*raw.glob("*.png"), raw / "text.jpeg"]:
            archive.write(path, f"in/folders/{path.name}")
    monkeypatch.setattr(units, "PHOTOGRAPHS", 3)
    threads = ["--direct_num_workers=2", "--direct_running_mode=multi_threading"]
    found = contents(
        run(workdir, raw, tmp_path / "out", image_dir=str(tmp_path / "raw.zip"), beam_args=threads)
    )
    expected = contents(explained)
    same = [name for name in expected if not name.endswith((".csv", ".json", ".html"))]
    assert len(same) == 3 + 3 * len(NAMES) + 3
    assert {name: found[name] for name in same} == {name: expected[name] for name in same}


def test_only_what_is_missing_is_done_again(workdir, raw, explained, tmp_path, monkeypatch):
    monkeypatch.setattr(units, "PHOTOGRAPHS", 3)
    copy = shutil.copytree(explained, tmp_path / "copy")
    (copy / "heatmaps-photographs-00001-of-00003.csv").unlink()
    (copy / "index.html").unlink()
    kept = copy / "overlays" / "photographs-00000-of-00003" / "1_left.png"
    before = kept.stat().st_mtime_ns
    assert contents(run(workdir, raw, copy)) == contents(explained)
    assert kept.stat().st_mtime_ns == before
    with pytest.raises(ValueError, match=r"overlays differs.*--overwrite"):
        run(workdir, raw, copy, overlays="small")
    run(workdir, raw, copy, overlays="none", labels="", overwrite=True)
    assert (
        len(list(copy.rglob("*.png"))) == 3 and "labels" not in (copy / "explain.json").read_text()
    )
    index = pd.read_csv(copy / "index.csv")
    assert index["label"].isna().all() and index["overlay"].isna().all()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"image_dir": ""}, "expected --data_dir, .* or --image_dir"),
        ({"lesions": ("MA",)}, "--lesions names folders of --masks_dir"),
        ({"methods": ("gradcam", "cam")}, "expected some of gradcam, gradcam"),
        ({"methods": ("gradcam", "occlusion")}, "for comparison with lesion masks"),
        ({"masks": "masks", "lesions": ("MA",)}, "no folder MA; it has EX, OD"),
        ({"masks": "."}, "has no mask of any of the 8 photographs"),
        ({"label_text": "image,level\n9_left,1\n"}, "names none of the 8 photographs"),
        ({"twin": "1_left.bmp"}, "two photographs are called 1_left"),
    ],
)
def test_what_cannot_be_done_is_refused_before_any_work(workdir, raw, tmp_path, changes, message):
    folder = shutil.copytree(raw, tmp_path / "raw")
    if "masks" in changes:
        changes = changes | {"masks_dir": folder / changes["masks"]}
    if "label_text" in changes:
        (folder / "labels.csv").write_text(changes["label_text"])
    if "twin" in changes:
        shutil.copy(folder / "1_left.png", folder / changes["twin"])
    given = {k: v for k, v in changes.items() if k not in ("masks", "label_text", "twin")}
    with pytest.raises(ValueError, match=message):
        run(workdir, folder, tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_among_the_photographs(workdir, raw):
    before = contents(raw)
    for output_dir in (raw, raw.parent):
        with pytest.raises(ValueError, match="holds the photograph .*choose another folder"):
            run(workdir, raw, output_dir)
    assert contents(raw) == before


def test_photographs_of_one_name_are_told_apart(workdir, raw, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        shutil.copy(raw / "1_left.png", tmp_path / folder)
    (tmp_path / "a" / "broken.png").write_text("")
    pattern = str(tmp_path / "*" / "*.png")
    out = run(workdir, raw, tmp_path / "out", image_dir=pattern, labels="", overlays="small")
    index = pd.read_csv(out / "index.csv")
    assert index["id"].tolist() == ["a/1_left", "b/1_left"]  # As a build calls them.
    assert index["photograph"].str.contains("/a/").tolist() == [True, False]
    made = sorted(out.rglob("overlays/*/*/*"))
    assert ["/".join(path.parts[-2:]) for path in made] == ["a/1_left.png", "b/1_left.png"]
    assert not (out / "thumbnails").exists()
    with pytest.raises(ValueError, match=r"none of the 1 photographs can be used.*unreadable"):
        run(workdir, raw, tmp_path / "none", image_dir=str(tmp_path / "a" / "b*.png"), labels="")


def test_numbers_that_lost_their_zeros_have_their_labels(workdir, raw, tmp_path):
    """As a build joins them: a spreadsheet made 5 of 005."""
    folder = tmp_path / "raw"
    folder.mkdir()
    for name in ("004", "005"):
        shutil.copy(raw / "1_left.png", folder / f"{name}.png")
    (tmp_path / "labels.csv").write_text("image,level\n4,0\n5,2\n")
    labels = str(tmp_path / "labels.csv")
    out = run(workdir, raw, tmp_path / "out", image_dir=str(folder), labels=labels)
    index = pd.read_csv(out / "index.csv", dtype={"id": str})
    assert dict(zip(index["id"], index["label"], strict=True)) == {"004": 0, "005": 2}


@pytest.fixture(scope="module")
def measured(workdir, raw, tmp_path_factory):
    methods = ("gradcam", "hirescam")
    return run(
        workdir, raw, tmp_path_factory.mktemp("out"), masks_dir=raw / "masks", methods=methods
    )


def test_measures_are_those_of_the_maps_on_the_photographs(workdir, raw, measured):
    table = pd.read_csv(measured / "localization_photographs.csv", dtype={"patient": str})
    assert table["id"].unique().tolist() == NAMES[:-1]  # The last has no lesion: OD is none.
    assert set(table["lesion"]) == {"EX", mask_measures.ANY}
    assert table["method"].value_counts().to_dict() == {"gradcam": 10, "hirescam": 10}
    table = table[table["method"] == "gradcam"]
    assert table["patient"].tolist() == [name[0] for name in table["id"]]
    row = table[(table["id"] == "2_left") & (table["lesion"] == "EX")].iloc[0]
    photograph = cv2.imread(str(raw / "2_left.png"))
    retina = photograph.max(axis=2) > 25  # Drawn on plain black.
    mask = np.zeros_like(retina)
    mask[50:60, 80:95] = True
    assert row["area"] == pytest.approx(150 / retina.sum(), rel=0.02)
    overlaid = heatmap_shards.read(measured / "heatmaps-photographs-00000-of-00001")
    heatmap = next(found for name, found, _ in overlaid if name == "2_left")
    recipe = bundles.load(workdir).experiment.dataset.recipe
    box = recipes.apply_recipe((raw / "2_left.png").read_bytes(), recipe).box
    height, width = retina.shape
    placed = box.to_photograph(heatmap, height=height, width=width) * retina
    assert row["energy"] == pytest.approx(placed[mask].sum() / placed.sum(), rel=0.02)
    y, x = np.unravel_index(placed.argmax(), placed.shape)
    outside = np.hypot(max(50 - y, y - 59, 0), max(80 - x, x - 94, 0))
    assert row["hit"] == (outside <= 0.03 * 2 * np.sqrt(retina.sum() / np.pi))
    assert table["insertion"].notna().sum() == 5 and table["deletion"].between(0, 1).sum() == 5
    assert not list(measured.glob("localization-*"))  # One table, not one more a part.


def test_too_few_patients_are_said_to_be_too_few(measured):
    summary = json.loads((measured / "localization.json").read_text())
    verdict, other = summary["verdicts"]
    assert (verdict["method"], other["method"]) == ("gradcam", "hirescam")
    assert verdict["alarm"] and verdict["text"].startswith("3 patients with lesions are too few")
    assert verdict["text"] in (measured / "index.html").read_text()
    assert results.headline(measured)[1:] == [verdict["text"], other["text"]]
    of_first = [row for row in summary["rows"] if row["method"] == "gradcam"]
    rows = {(row["by"], row["name"]): row["photographs"] for row in of_first}
    assert rows == {
        ("all", mask_measures.ANY): 5,
        ("lesion", "EX"): 5,
        ("label", "a"): 2,
        ("label", "b"): 1,
        ("label", "c"): 1,
    }
    flat = pd.read_csv(measured / "localization.csv")
    assert flat["method"].tolist() == ["gradcam", "hirescam"] * 5
    assert len(flat) == 10 and {"hit", "hit_low", "energy_gain_high"} < set(flat.columns)
