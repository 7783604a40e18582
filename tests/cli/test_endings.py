"""What a command says on a disk that is full or read-only, and what it does with `~` and Ctrl-C."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import psutil
import pytest

from dr_tfx.cli import endings
from dr_tfx.storage import temporary
from tests.helpers import bundled, commands, disks, ready
from tests.training.test_endings import quick

ROOT = Path(__file__).parents[2]


def run(line, **environment):
    return ready.run(line, env={**os.environ, **environment})


def run_from_the_start(line, **environment):
    env = {**os.environ, **environment}
    return subprocess.run(line, cwd=ROOT, env=env, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    """A folder with the bundle `run`, its `data` and `photographs`."""
    folder = tmp_path_factory.mktemp("line")
    bundled.evaluated_bundle(folder)
    bundled.write_photographs(folder / "photographs")
    return folder


def words(command, line, out):
    """A command line that writes to `out`."""
    run, data = f"--workdir={line / 'run'}", f"--data_dir={line / 'data'}"
    arguments = {
        "drtfx-evaluate": [run, data, f"--output_dir={out}"],
        "drtfx-explain": [run, data, f"--output_dir={out}"],
        "drtfx-predict": [run, f"--output_dir={out}", str(line / "photographs" / "eye.jpeg")],
        "drtfx-synthesize": ["--num_patients=2", "--processes=1", f"--output_dir={out}"],
        "drtfx-train": [],
    }
    if command == "drtfx-train":
        return commands.train_line(quick(encoding="png", epochs=1), line / "data", out)
    return commands.line(command, *arguments[command])


WRITERS = ["drtfx-train", "drtfx-evaluate", "drtfx-explain", "drtfx-predict", "drtfx-synthesize"]


@pytest.mark.parametrize("command", WRITERS)
def test_a_full_disk_is_a_sentence_with_the_file_and_what_to_do(command, line, tmp_path):
    with disks.mounted(tmp_path / "disk", size=1_000_000) as disk:
        disks.fill(disk, left=12_000)
        done = run(words(command, line, disk / "out"))
        last = done.stderr.rstrip().splitlines()[-1]
        assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
        assert last.startswith("error: no space is left for "), done.stderr
        assert f"{disk / 'out'}" in last and last.endswith("what is finished is kept")
        (disk / "filled").unlink()
        done = run(words(command, line, disk / "out"))
        if command != "drtfx-synthesize":  # Its photographs are larger than this disk.
            assert done.returncode == 0, done.stderr
            assert not list(disk.rglob("*.tmp"))


@pytest.mark.parametrize("command", WRITERS)
def test_a_read_only_disk_is_named_before_the_work(command, line, tmp_path):
    with disks.mounted(tmp_path / "disk", size=1_000_000) as disk:
        disks.make_read_only(disk)
        done = run(words(command, line, disk / "out"))
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert done.stderr.rstrip().splitlines()[-1] == (
        f"error: {disk / 'out'} cannot be written: its disk is read-only. Choose another folder "
        "for the results (--output_dir, or --workdir of a training)"
    )


def test_a_home_stands_for_a_tilde_after_the_equals_sign(line, tmp_path):
    """As a shell that expands none: neither in a flag nor in an argument."""
    run_in, photograph = "--workdir=~/run", "~/photographs/eye.jpeg"
    line_in_home = ["drtfx-predict", run_in, "--output_dir=~/predicted", photograph]
    done = run(commands.line(*line_in_home), HOME=str(line))
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().splitlines()[-1] == str(line / "predicted")
    assert (line / "predicted" / "figures" / "eye.png").is_file()


def test_a_persons_own_settings_of_keras_change_nothing(line, tmp_path):
    """The default order of axes, float type and backend of the person are others."""
    keras = tmp_path / ".keras"
    keras.mkdir()
    own = {"image_data_format": "channels_first", "backend": "jax", "floatx": "float64"}
    (keras / "keras.json").write_text(json.dumps(own))
    tables = []
    for environment in ({}, {"HOME": str(tmp_path), "KERAS_BACKEND": "torch"}):
        out = tmp_path / str(len(tables))
        begin = run_from_the_start if environment else run
        done = begin(words("drtfx-predict", line, out), **environment)
        assert done.returncode == 0, done.stderr
        tables.append((out / "predictions.csv").read_bytes())
    assert tables[0] == tables[1]
    workdir = tmp_path / "run"
    trained = commands.train_line(quick(encoding="png", epochs=1), line / "data", workdir)
    done = run_from_the_start(trained, HOME=str(tmp_path), KERAS_BACKEND="torch")
    assert done.returncode == 0, done.stderr


def test_another_backend_that_is_loaded_already_is_a_sentence():
    code = (
        "import keras\n"
        "keras.backend.backend = lambda: 'jax'\n"  # JAX itself need not be installed here.
        "from dr_tfx.models import keras_settings; keras_settings.apply()\n"
    )
    done = run([sys.executable, "-c", code])
    last = done.stderr.rstrip().splitlines()[-1]
    assert "Keras runs on 'jax' in this process; dr_tfx needs TensorFlow" in last


def test_windows_is_told_of_wsl():
    code = "import sys; sys.platform = 'win32'; import dr_tfx"
    done = run_from_the_start([sys.executable, "-c", code])
    assert "On Windows, install and start it inside WSL" in done.stderr.rstrip().splitlines()[-1]


def test_a_killed_commands_temporary_files_are_removed_by_the_next(line, tmp_path):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    (temporary / "mine").touch()
    command = words("drtfx-explain", line, tmp_path / "out")
    with ready.Popen(
        command, env={**os.environ, "TMPDIR": str(temporary)}, stderr=subprocess.PIPE
    ) as process:
        until = time.monotonic() + 200
        while not list(tmp_path.glob("out/heatmaps-*.tmp")):
            assert time.monotonic() < until and process.poll() is None, process.stderr.read()
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
    (left,) = (path for path in temporary.iterdir() if path.name != "mine")
    assert left.name.startswith("drtfx-")
    long_ago = time.time() - 3600
    os.utime(left, (long_ago, long_ago))
    done = run(command, TMPDIR=str(temporary))
    assert done.returncode == 0, done.stderr
    assert [path.name for path in temporary.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    "command, flags, number",
    [
        ("drtfx-explain", ["--method=occlusion"], signal.SIGTERM),  # It takes some seconds.
        ("drtfx-build-examples", ["--direct_running_mode=multi_processing"], signal.SIGINT),
    ],
)
def test_a_signal_ends_a_job_in_one_line_and_the_same_command_goes_on(
    line, tmp_path, raw, command, flags, number
):
    """Ctrl-C reaches all processes of a terminal, SIGTERM the one that it is meant for."""
    out = tmp_path / "out"
    job = words("drtfx-explain", line, out)
    if command == "drtfx-build-examples":
        config = tmp_path / "config.py"
        settings = {"dataset": {"label_names": ("0", "1", "2")}, "task": {"label_map": (0, 1, 1)}}
        config.write_text(
            "import ml_collections\n"
            f"def get_config():\n    return ml_collections.ConfigDict({settings})\n"
        )
        given = [f"--config={config}", f"--image_dir={raw}", f"--labels={raw / 'labels.csv'}"]
        job = commands.line(command, *given, f"--output_dir={out}")
    with ready.Popen(
        [*job, *flags], stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        until = time.monotonic() + 200
        while not [*out.glob("heatmaps-*.tmp"), *out.glob(".train-*.tmp")]:
            assert time.monotonic() < until and process.poll() is None, process.stderr.read()
            time.sleep(0.001)
        children = psutil.Process(process.pid).children(recursive=True)
        workers = [child for child in children if child.name() != "grep"]  # Of `error_lines`.
        (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
        said = process.stderr.read()
    assert process.returncode == 128 + number and "Traceback" not in said, said
    assert said.rstrip().splitlines()[-1].startswith("interrupted. The same command again goes on")
    assert bool(workers) == (command == "drtfx-build-examples")
    assert not psutil.wait_procs(children, timeout=10)[1]
    assert not (out / ".lock").exists()
    done = run([*job, *flags])
    assert done.returncode == 0, done.stderr


def test_a_job_that_fails_ends_with_the_sentence_of_the_work(line, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(line / "data", data)
    (shard,) = data.glob("validation-1.tfrecord-*")
    damaged = bytearray(shard.read_bytes())
    damaged[len(damaged) // 2] ^= 255
    shard.write_bytes(damaged)
    folders = [
        f"--workdir={line / 'run'}",
        f"--data_dir={data}",
        f"--output_dir={tmp_path / 'out'}",
    ]
    done = run(commands.line("drtfx-explain", *folders, "--split=validation"))
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    last = done.stderr.rstrip().splitlines()[-1]
    assert last.startswith(f"error: {shard} is damaged") and "while running" not in done.stderr
    shutil.copy(line / "data" / shard.name, shard)
    done = run(commands.line("drtfx-explain", *folders, "--split=validation"))
    assert done.returncode == 0 and (tmp_path / "out" / "index.html").is_file(), done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_amid_predictions_leaves_whole_rows_and_their_figures(line, tmp_path, number):
    out, many = tmp_path / "out", tmp_path / "many"
    many.mkdir()
    for n in range(300):
        shutil.copy(line / "photographs" / "eye.jpeg", many / f"{n:03}.jpeg")
    given = [f"--workdir={line / 'run'}", f"--output_dir={out}", str(many)]
    with ready.Popen(
        commands.line("drtfx-predict", *given),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        printed = [process.stdout.readline() for _ in range(4)]
        os.killpg(process.pid, number)
        printed += process.stdout.readlines()
        said = process.stderr.read()
    assert process.returncode == 128 + number and "Traceback" not in said, said
    table = (out / "predictions.csv").read_text()
    assert table.endswith("\n")
    rows = list(csv.DictReader(io.StringIO(table)))
    assert said.rstrip().splitlines()[-1] == (
        f"interrupted. {out / 'predictions.csv'} has the rows of {len(rows)} of 300 photographs. "
        "The same command goes on."
    )
    assert 3 <= len(rows) < 300 and len(printed) == len(rows) + 1
    assert {row["figure"] for row in rows} == {f"figures/{n:03}.png" for n in range(len(rows))}
    found = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert found == {"predict.json", "predictions.csv"} | {row["figure"] for row in rows}
    for row in rows:
        assert float(row["score"]) >= 0
        assert cv2.imread(str(out / row["figure"])) is not None


def test_ctrl_c_amid_drawing_is_one_line_of_all_processes(tmp_path):
    given = ["--num_patients=99", "--processes=2", f"--output_dir={tmp_path / 'drawn'}"]
    with subprocess.Popen(
        commands.line("drtfx-synthesize", *given),
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        until = time.monotonic() + 100
        while not list(tmp_path.glob("drawn/*.jpeg")):
            assert time.monotonic() < until and process.poll() is None, process.stderr.read()
            time.sleep(0.01)
        children = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGINT)
        said = process.stderr.read()
    assert process.returncode == 130 and len(children) >= 2
    assert said.split() == endings.told_interrupt(KeyboardInterrupt()).split()
    assert not psutil.wait_procs(children, timeout=10)[1]


def test_output_that_cannot_be_printed_is_a_sentence():
    """On a full device it stays in Python's buffer until the end."""
    for buffered in ("", "1"):
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                [sys.executable, "-m", commands.COMMANDS["drtfx-synthesize"], "--help"],
                cwd=ROOT,
                env={**os.environ, "PYTHONUNBUFFERED": buffered},
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
        assert done.returncode == 1
        assert done.stderr.startswith("error: no space is left for the output. Make room")


def test_without_a_place_for_temporary_files_a_command_names_the_variable(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/proc/none"])
    with pytest.raises(OSError, match="export TMPDIR=FOLDER"):
        temporary.use_own_folder()


def test_ctrl_c_while_a_command_is_loaded_is_a_line():
    code = "import dr_tfx.cli; raise KeyboardInterrupt"
    done = run([sys.executable, "-c", code])
    assert done.returncode == -signal.SIGINT
    assert done.stderr.strip() == endings.told_interrupt(KeyboardInterrupt())
