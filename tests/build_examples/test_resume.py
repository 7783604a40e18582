"""The build job killed, and out of room: nothing half-written looks whole, and it goes on."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dr_tfx.dataset import manifest
from tests.helpers import ready, terminal
from tests.helpers.builds import contents
from tests.helpers.drawn import draw, encode

ROOT = Path(__file__).parents[2]
PHOTOGRAPHS = 64

# As a shell starts what is put in the background with `&`.
NO_INTERRUPTS = ("sh", "-c", 'trap "" INT; exec "$@"', "sh")


def command(raw: Path, output_dir: Path, *flags: str) -> list[str]:
    return [
        *(sys.executable, "-m", "beam_jobs.cli.build_examples", "--config=configs/reference.py"),
        *("--config.dataset.shard_examples=1", "--config.dataset.split.validation=0.25"),
        *(f"--image_dir={raw}", f"--labels={raw / 'labels.csv'}", f"--output_dir={output_dir}"),
        *flags,
    ]


def succeed(words: list[str]) -> str:
    done = ready.run(words)
    assert done.returncode == 0, done.stderr
    return done.stderr


def sidecars(folder: Path) -> list[Path]:
    return sorted(folder.glob("_progress/*.shard.json"))


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    """Photographs large enough that a job over them can be caught at work."""
    folder = tmp_path_factory.mktemp("raw")
    lines = ["image,level"]
    for i in range(PHOTOGRAPHS):
        name = f"{i // 2}_{('left', 'right')[i % 2]}"
        (folder / f"{name}.jpeg").write_bytes(encode(draw(i, width=1200, height=900)))
        lines.append(f"{name},{i % 2}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def undisturbed(raw, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    succeed(command(raw, folder))
    return folder


TWO = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")


def test_killed_thrice_and_finished_to_the_same_bytes(raw, undisturbed, tmp_path):
    out, chance = tmp_path / "out", random.Random(20)
    kept: dict[str, int] = {}
    for finished in (0, 14, 40):  # Shards to wait for; then a random moment.
        job = ready.Popen(
            command(raw, out, *TWO if finished % 2 == 0 else ()),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 120
        while not (out / "_progress" / "rows.jsonl").exists() or len(sidecars(out)) < finished:
            assert time.monotonic() < deadline and job.poll() is None
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.1))
        assert job.poll() is None, "the job was over before it could be killed"
        os.killpg(job.pid, signal.SIGKILL)
        job.wait()
        assert not (out / "dataset.json").exists()
        # What an earlier attempt finished has not been written again.
        assert all((out / name).stat().st_ino == inode for name, inode in kept.items())
        names = [path.name.removesuffix(".shard.json") for path in sidecars(out)]
        kept = {name: (out / name).stat().st_ino for name in names}
    assert len(kept) >= 40
    said = succeed(command(raw, out))
    assert f"{len(kept)} of {PHOTOGRAPHS} shards were finished before" in said
    assert all((out / name).stat().st_ino == inode for name, inode in kept.items())
    assert contents(out) == contents(undisturbed)


def test_a_worker_that_dies_ends_the_job_with_a_word(raw, undisturbed, tmp_path):
    psutil = pytest.importorskip("psutil")
    out = tmp_path / "out"

    def is_worker(process) -> bool:
        try:
            return "local_worker" in " ".join(process.cmdline())
        except psutil.Error:  # Gone meanwhile, or just being started.
            return False

    with subprocess.Popen(
        [*NO_INTERRUPTS, *command(raw, out, *TWO)], cwd=ROOT, stderr=subprocess.PIPE, text=True
    ) as job:
        deadline = time.monotonic() + 120
        while len(sidecars(out)) < 4:
            assert time.monotonic() < deadline and job.poll() is None
            time.sleep(0.002)
        children = psutil.Process(job.pid).children(recursive=True)
        # All: on a busy machine one may have been given no work yet, and would not be missed.
        for worker in filter(is_worker, children):
            worker.kill()
        _, said = job.communicate(timeout=120)
    assert job.returncode == 1
    assert "error: the worker process ended with exit code -9" in said.splitlines()[-1], said
    assert "resuming: " in succeed(command(raw, out))
    assert contents(out) == contents(undisturbed)


def test_progress_is_shown_while_a_shard_is_written(raw, tmp_path):
    many = tmp_path / "many"
    many.mkdir()
    lines = ["image,level"]
    for i, path in enumerate(sorted(raw.glob("*.jpeg")) * 4):
        name = f"{i}_left"
        # Of different sizes: nobody has to look for twins.
        (many / f"{name}.jpeg").write_bytes(path.read_bytes() + bytes(i))
        lines.append(f"{name},0")
    (many / "labels.csv").write_text("\n".join([*lines, "gone,1"]))
    words = command(many, tmp_path / "out", "--config.dataset.shard_examples=512")
    code, said = terminal.run(words)
    assert code == 0, said.decode()
    done = [int(number) for number in re.findall(rb"(\d+)/256 \[", said)]
    assert done == sorted(done) and done[-1] == 256
    assert any(0 < number < 192 for number in done)  # 192 is the larger of two shards.
    assert b"rejected=0" in said and b"photograph/s" in said


def test_full_disk_leaves_nothing_that_looks_whole(raw, undisturbed, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    size = 32 * 28 * 1024  # Half of the shards' 64 x 27 KiB.
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(small)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small file system can be mounted by root only")
    try:
        done = ready.run(command(raw, small / "out"))
        assert done.returncode != 0 and "Traceback" not in done.stderr
        assert re.search(r"error: .*no space left in .*small/out", done.stderr), done.stderr
        written = contents(small / "out")
        assert "dataset.json" not in written
        assert not [name for name in written if name.endswith(".tmp")]
        whole = contents(undisturbed)
        shards = [name for name in written if name.startswith(("train", "validation"))]
        assert 0 < len(shards) < PHOTOGRAPHS
        assert all(written[name] == whole[name] for name in shards)
        subprocess.run(["mount", "-o", "remount,size=100m", str(small)], check=True)
        assert "resuming: " in succeed(command(raw, small / "out"))
        assert contents(small / "out") == whole
        assert manifest.load(small / "out").written == PHOTOGRAPHS
    finally:
        subprocess.run(["umount", str(small)], check=True)
