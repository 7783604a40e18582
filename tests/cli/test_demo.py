"""Every command in small, as a user starts it, and the agreement of their files."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import types
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import psutil
import pytest

from beam_jobs.cli import demo
from dr_tfx.dataset import manifest, records
from tests.helpers import ready
from tests.helpers.commands import COMMANDS

ROOT = Path(__file__).parents[2]
OUTSIDE = Path(tempfile.gettempdir())  # A folder without configs/.
PATIENTS = 24
CONFIG = f"--config={ROOT / 'configs' / 'smoke.py'}"


def run(command: str, *arguments: object, cwd: Path = OUTSIDE) -> subprocess.CompletedProcess:
    """Run the command in a process of its own, started outside the repository."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    words = [sys.executable, "-m", COMMANDS[command], *map(str, arguments)]
    return ready.run(words, cwd=cwd, env={**os.environ, "PYTHONPATH": path})


def succeed(command: str, *arguments: object) -> str:
    done = run(command, *arguments)
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-5000:]}"
    return done.stdout


@dataclasses.dataclass(frozen=True)
class Line:
    """The folders and the printed lines of one pass through all commands."""

    raw: Path
    data: Path
    work: Path
    explained: Path
    printed: dict[str, str]

    @property
    def evaluation(self) -> Path:
        return self.work / "evaluation" / "validation"

    def predictions(self) -> pd.DataFrame:
        table = pd.read_csv(self.evaluation / "predictions.csv", dtype=str)
        scores = [column for column in table if column.startswith("score")]
        # A score may be the threshold itself. Python's float is exact, pandas' own need not be.
        exact = {column: table[column].map(float) for column in scores}
        return table.assign(**exact).astype({"stratum": int, "target": int})

    def metrics(self) -> dict:
        return json.loads((self.evaluation / "metrics.json").read_text())


@pytest.fixture(scope="module")
def line(tmp_path_factory) -> Line:
    folder = tmp_path_factory.mktemp("line")
    raw, data, work, explained = (folder / name for name in ("raw", "data", "run", "explained"))
    on_validation = (f"--workdir={work}", f"--data_dir={data}", "--split=validation")
    steps = {
        "drtfx-synthesize": (
            f"--output_dir={raw}",
            f"--num_patients={PATIENTS}",
            "--grade_probabilities=.5,.1,.2,.1,.1",
        ),
        "drtfx-build-examples": (
            CONFIG,
            f"--image_dir={raw}",
            f"--labels={raw / 'labels.csv'}",
            f"--output_dir={data}",
        ),
        "drtfx-train": (
            CONFIG,
            f"--data_dir={data}",
            f"--workdir={work}",
            "--config.training.epochs=1",
            "--config.evaluation.bootstrap_resamples=200",
        ),
        "drtfx-evaluate": on_validation,
        "drtfx-explain": (*on_validation, f"--output_dir={explained}"),
    }
    printed = {command: succeed(command, *arguments) for command, arguments in steps.items()}
    return Line(raw, data, work, explained, printed)


def test_every_command_ends_with_the_path_it_made(line):
    made = {
        "drtfx-synthesize": line.raw,
        "drtfx-build-examples": line.data,
        "drtfx-train": line.work,
        "drtfx-evaluate": line.evaluation / "report.html",
        "drtfx-explain": line.explained,
    }
    for command, path in made.items():
        last = line.printed[command].strip().splitlines()[-1]
        assert Path(last).resolve() in {path.resolve(), path.resolve() / "dataset.json"}, command


def test_photographs_are_named_as_kaggles(line):
    labels = pd.read_csv(line.raw / "labels.csv")
    assert list(labels.columns) == ["image", "level"] and len(labels) == 2 * PATIENTS
    assert labels["image"].str.fullmatch(r"\d+_(left|right)").all()
    assert labels["level"].between(0, 4).all()
    assert all((line.raw / f"{name}.jpeg").is_file() for name in labels["image"])


def test_accounting_is_complete(line):
    data = manifest.load(line.data)
    assert data.rows == 2 * PATIENTS == data.written + sum(data.rejected.values())
    assert data.written == sum(shard.records for shard in data.shards)
    assert data.written == sum(sum(by_label.values()) for by_label in data.counts.values())
    labels = pd.read_csv(line.raw / "labels.csv").set_index("image")["level"]
    seen = {}
    for shard in data.shards:
        with (line.data / shard.name).open("rb") as stream:
            examples = [records.parse(record) for record in records.read(stream)]
        assert len(examples) == shard.records
        for example in examples:
            name = example[records.IMAGE_ID].decode()
            assert example[records.LABEL_PREFIX + "level"] == shard.label == labels[name]
            seen[name] = shard.split
    assert len(seen) == data.written
    by_patient = pd.Series(seen).groupby(lambda name: name.split("_")[0]).nunique()
    assert (by_patient == 1).all() and data.shared_patients == 0


def test_history_has_a_row_an_epoch(line):
    history = pd.read_csv(line.work / "history.csv")
    assert history["epoch"].tolist() == [1]
    assert history[["loss", "val_loss", "val_auc", "val_accuracy"]].notna().all(axis=None)


def test_bundle_is_complete(line):
    for name in ("model.keras", "weights.safetensors", "bundle.json", "history.csv"):
        assert (line.work / name).stat().st_size > 0, name
    bundle = json.loads((line.work / "bundle.json").read_text())
    assert bundle["fitted"]["threshold"] == line.metrics()["selection"]["threshold"]
    assert bundle["manifest"] == json.loads((line.data / "dataset.json").read_text())


def test_predictions_cover_the_split_once(line):
    predictions = line.predictions()
    expected = sum(shard.records for shard in manifest.load(line.data).shards_of("validation"))
    assert len(predictions) == expected and predictions["id"].is_unique
    views = [column for column in predictions if column.startswith("score/")]
    assert np.allclose(predictions["score"], predictions[views].mean(axis=1), atol=1e-6)


def test_metrics_agree_with_a_recount(line):
    predictions, metrics = line.predictions(), line.metrics()
    point = metrics["scores"]["tta"]["at_threshold"]
    decided = (predictions["score"] >= point["threshold"]).astype(int)
    counted = [
        [int(((predictions["target"] == truth) & (decided == said)).sum()) for said in (0, 1)]
        for truth in (0, 1)
    ]
    assert point["confusion"] == counted
    assert predictions["decision"].tolist() == np.where(decided, "abnormal", "normal").tolist()
    assert metrics["counts"]["images"] == len(predictions) == int(np.sum(counted))
    assert metrics["selection"]["optimistic"], "a threshold was chosen on this very split"


def test_report_needs_nothing_else(line):
    page = (line.evaluation / "report.html").read_text(encoding="utf-8")
    assert page.lstrip().lower().startswith("<!doctype html>") and "</html>" in page
    sources = re.findall(r"""(?:src|srcset|href)\s*=\s*["']([^"']+)""", page)
    assert sources and all(source.startswith(("data:", "#")) for source in sources), sources


@pytest.mark.parametrize(
    "name", ["gradcam_final.png", "gradcam_normal.png", "gradcam_abnormal.png"]
)
def test_heat_map_figures_are_pictures(line, name):
    picture = cv2.imread(str(line.explained / name))
    assert picture is not None, name
    assert min(picture.shape[:2]) > 200 and picture.std() > 10


def test_heat_maps_go_with_the_predictions(line):
    index = pd.read_csv(line.explained / "index.csv", dtype={"id": str}).set_index("id")
    predictions = line.predictions().set_index("id").loc[index.index]
    assert len(index) == len(line.predictions())
    assert (index["target"] == predictions["target"]).all()
    assert np.allclose(index["score"], predictions["score"], rtol=0, atol=1e-4)


def test_second_build_finds_its_work_done(line):
    before = {path.name: path.stat().st_mtime_ns for path in line.data.glob("*.tfrecord-*")}
    done = run(
        "drtfx-build-examples",
        CONFIG,
        f"--image_dir={line.raw}",
        f"--labels={line.raw / 'labels.csv'}",
        f"--output_dir={line.data}",
    )
    assert done.returncode == 0, done.stderr
    assert "finished" in (done.stdout + done.stderr).lower()
    assert before == {p.name: p.stat().st_mtime_ns for p in line.data.glob("*.tfrecord-*")}


def test_second_training_finds_its_work_done(line):
    before = (line.work / "model.keras").stat().st_mtime_ns
    succeed(
        "drtfx-train",
        CONFIG,
        f"--data_dir={line.data}",
        f"--workdir={line.work}",
        "--config.training.epochs=1",
        "--config.evaluation.bootstrap_resamples=200",
    )
    assert (line.work / "model.keras").stat().st_mtime_ns == before


def test_data_of_another_recipe_is_refused_by_name(line, tmp_path):
    plain = json.loads((line.data / "dataset.json").read_text())
    plain["dataset"]["recipe"]["clip_limit"] = 3.5
    for path in (p for end in ("tfrecord-*", "arrow", "npy") for p in line.data.glob(f"*.{end}")):
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "dataset.json").write_text(json.dumps(plain))
    done = run(
        "drtfx-evaluate", f"--workdir={line.work}", f"--data_dir={tmp_path}", "--split=validation"
    )
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert "dataset.recipe.clip_limit" in done.stderr and "3.5" in done.stderr


def test_raw_photographs_score_as_their_examples(line):
    wanted = line.predictions().set_index("id")["score"].iloc[[0, -1]]
    printed = succeed(
        "drtfx-predict",
        f"--workdir={line.work}",
        *(line.raw / f"{name}.jpeg" for name in wanted.index),
    )
    table = pd.read_csv(line.work / "predictions" / "predictions.csv")
    assert table["rejected"].isna().all()
    assert np.allclose(table["score"], wanted, rtol=0, atol=1e-4)
    # Decisions follow the printed score: a score at the threshold may fall on either side of it in
    # another batch.
    positive = table["score"] >= line.metrics()["selection"]["threshold"]
    assert table["decision"].tolist() == np.where(positive, "abnormal", "normal").tolist()
    for name, figure in zip(wanted.index, table["figure"], strict=True):
        assert f"{name}.jpeg" in printed
        assert cv2.imread(str(line.work / "predictions" / figure)) is not None
    assert Path(printed.strip().splitlines()[-1]) == line.work / "predictions"


def test_demo_refuses_a_folder_that_is_in_use(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    done = run("drtfx-demo", f"--output_dir={tmp_path}")
    assert done.returncode == 1 and "not an empty folder" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_demo_names_the_step_that_failed(monkeypatch, capsys):
    monkeypatch.setitem(demo._MODULES, "drtfx-train", "dr_tfx.there_is_no_such_module")
    with pytest.raises(SystemExit) as stopped:
        demo._run(["drtfx-train", "--workdir=run"], "3/6")
    assert stopped.value.code == 1
    captured = capsys.readouterr()
    assert "$ drtfx-train --workdir=run" in captured.out
    assert "drtfx-train ended with exit code 1" in captured.err


def test_sigterm_ends_the_demos_command_too_and_the_same_demo_goes_on_behind_it(tmp_path):
    (tmp_path / "ends.py").write_text("print('drawn')")
    (tmp_path / "waits.py").write_text("import time; print('waits', flush=True); time.sleep(100)")
    code = (
        "from beam_jobs.cli import demo\n"
        "demo._MODULES |= {'drtfx-synthesize': 'ends', 'drtfx-build-examples': '%s'}\n"
        "demo.run()\n"
    )
    folder = tmp_path / "demo"
    flags = [CONFIG, f"--output_dir={folder}"]
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    there = {"cwd": OUTSIDE, "env": {**os.environ, "PYTHONPATH": path}, "text": True}
    with subprocess.Popen(
        [sys.executable, "-c", code % "waits", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **there,
    ) as process:
        said = list(iter(process.stdout.readline, "waits\n"))
        (child,) = psutil.Process(process.pid).children()
        process.terminate()
        assert process.wait(timeout=60) == 128 + signal.SIGTERM
        assert process.stderr.read().strip().startswith("interrupted. The same command again goes")
    assert "drawn\n" in said and not child.is_running()
    line = [sys.executable, "-c", code % "nothing_of_this_name", *flags]
    done = subprocess.run(line, capture_output=True, check=False, **there)
    assert done.returncode == 1 and "drawn\n" not in done.stdout
    assert "drtfx-build-examples ended with exit code 1" in done.stderr
    other = subprocess.run([*line, "--seed=5"], capture_output=True, check=False, **there)
    assert other.returncode == 1 and "holds a demo of other flags" in other.stderr


_APART = ("drtfx-inspect", "drtfx-config", "drtfx-pretrain")  # No demo needs them.


def test_demo_runs_every_command_as_it_prints_it(tmp_path):
    steps = demo.commands(tmp_path, config="smoke.py", num_patients=20, seed=0)
    order = [name for name in COMMANDS if name not in _APART]
    assert [step[0] for step in steps] == order[:5]
    assert set(demo._MODULES.items()) == set(COMMANDS.items()) - {
        ("drtfx-inspect", "beam_jobs.cli.inspect_input"),  # It prints a config; there is one.
        ("drtfx-config", "dr_tfx.cli.config"),  # It prints settings.
        ("drtfx-pretrain", "dr_tfx.cli.pretrain"),  # It learns without labels.
        ("drtfx-compare", "dr_tfx.cli.compare"),  # It takes two runs.
        ("drtfx-crossvalidate", "dr_tfx.cli.crossvalidate"),  # It takes a run for each fold.
        ("drtfx-ensemble", "dr_tfx.cli.ensemble"),  # It takes several runs.
        ("drtfx-export", "dr_tfx.cli.export"),  # It needs the extra of ONNX.
        ("drtfx-push", "dr_tfx.cli.push"),  # It needs a repository.
        ("drtfx-serve", "dr_tfx.cli.serve"),  # It goes on until it is ended.
        ("drtfx-demo", "beam_jobs.cli.demo"),
    }


def test_demo_draws_what_its_task_is_about(tmp_path):
    steps = demo.commands(tmp_path, config="ct_hemorrhage", num_patients=None, seed=0)
    assert {"--condition=hemorrhage", "--num_patients=100"} <= set(steps[0])
    assert "--method=occlusion" in steps[4]
    assert "--config=ct_hemorrhage:demo" in steps[1] and steps[1][1] == steps[2][1]
    discs = demo.commands(tmp_path, config="glaucoma", num_patients=None, seed=0)
    assert {"--condition=glaucoma", "--num_patients=250"} <= set(discs[0])
    assert "--config=glaucoma:demo" in discs[2]
    eyes = demo.commands(tmp_path, config="configs/smoke.py", num_patients=None, seed=0)
    assert "--num_patients=500" in eyes[0] and "--config=configs/smoke.py" in eyes[2]


def test_demo_of_lesions_takes_its_labels_from_masks_and_explains_nothing(tmp_path):
    steps = demo.commands(tmp_path, config="lesions", num_patients=None, seed=0)
    build = next(step for step in steps if step[0] == "drtfx-build-examples")
    assert {"--labels=masks", f"--masks_dir={tmp_path / 'raw' / 'masks'}"} < set(build)
    assert "--config=lesions:demo" in build
    assert "drtfx-explain" not in [step[0] for step in steps]


@pytest.mark.parametrize(
    ("dice", "patients", "is_enough"),
    [
        (0.81, None, True),
        (0.8, None, True),
        (0.79, None, False),
        (0.79, 60, False),
        (0.2, 20, True),
    ],
)
def test_demo_of_lesions_fails_below_its_floor_unless_photographs_are_few(
    dice, patients, is_enough, tmp_path, monkeypatch, capsys
):
    report = tmp_path / "run" / "evaluation" / "validation" / "report.html"
    report.parent.mkdir(parents=True)
    interval = {"value": dice, "low": dice - 0.05, "high": dice + 0.05}
    rows = [{"name": name, "dice": interval} for name in ("HE", "EX")]
    counts = {"images": 24, "patients": 12}
    metrics = {"figures": {"dice": interval}, "lesions": rows, "counts": counts}
    (report.parent / "metrics.json").write_text(json.dumps(metrics))
    monkeypatch.setattr(demo, "_NUM_PATIENTS", types.SimpleNamespace(value=patients))
    drawing = demo._TASKS["lesions"]
    if is_enough:
        demo._summary(tmp_path, drawing, minutes=1)
    else:
        with pytest.raises(SystemExit, match="the mean Dice is below 0.8: the model has not learn"):
            demo._summary(tmp_path, drawing, minutes=1)
    said = capsys.readouterr().out
    assert f"mean Dice {dice:.3f}" in said and f"HE {dice:.3f}, EX {dice:.3f}" in said
    assert said.endswith(f"{report}\n") == is_enough


def test_demo_of_a_config_that_there_is_not_says_which_there_are(tmp_path):
    done = run("drtfx-demo", f"--output_dir={tmp_path / 'demo'}", "--config=eyes", cwd=tmp_path)
    assert done.returncode == 1 and not (tmp_path / "demo").exists()
    assert "--config=eyes: there is no such file, and no config of this name" in done.stderr
