"""Kills every stage at random moments, goes on, and compares all with an undisturbed run.

    python -m tests.fuzz.kills --rounds=100 --seed=1 build train evaluate explain

It is run by hand: a round takes a second or more. Every round kills a stage one to three times with
SIGKILL, at moments that are uniform over the time of an undisturbed run, and then lets it end. A
stage that ended before its first moment says how long it takes now, and its round begins again.
Compared are the bytes of all files, or for a training the figures of its history and its weights.
Nothing may be left besides: no lock, no unfinished file.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import pandas as pd

# All of it is loaded here, once, and the stages are forks: nothing of TensorFlow is run before.
from beam_jobs.explain import job as explain_job
from beam_jobs.explain import plan as explain_plan
from dr_tfx.evaluation import evaluate
from dr_tfx.models import bundles
from dr_tfx.storage import locks
from dr_tfx.training import train
from tests.helpers import backbones, bundled, datasets  # noqa: F401 - `small`.
from tests.helpers.builds import build
from tests.helpers.drawn import draw, encode

_COSTS = ("seconds", "input_wait", "peak_memory_gb")


def quick() -> object:
    """Settings of a training of some seconds, with all sources of chance."""
    augmentation = {"horizontal_flip": True, "rotation": 0.1}
    made = datasets.experiment(
        deterministic=True, checkpoint_steps=2, augmentation=augmentation, epochs=6
    )
    model = dataclasses.replace(made.model, backbone="small", dropout=(0.2,))
    return dataclasses.replace(made, model=model)


def prepare(place: Path) -> None:
    """Write photographs, and a bundle with its data set."""
    raw = place / "raw"
    raw.mkdir()
    lines = ["image,level"]
    for number in range(40):
        name = f"{number // 2}_{('left', 'right')[number % 2]}"
        (raw / f"{name}.jpeg").write_bytes(encode(draw(number, width=640, height=480)))
        lines.append(f"{name},{number % 3}")
    (raw / "labels.csv").write_text("\n".join(lines) + "\n")
    datasets.write(place / "examples", quick().dataset)
    bundled.evaluated_bundle(place)


def stages(place: Path) -> dict[str, Callable[[Path], None]]:
    """Return name -> a function that runs the stage into a folder."""
    data = place / "data"

    def explain(out: Path) -> None:
        from apache_beam.options.pipeline_options import PipelineOptions

        request = explain_plan.ExplainRequest(
            workdir=place / "run",
            output_dir=out,
            data_dir=data,
            split="train",
            methods=("gradcam",),
        )
        explain_job.explain(request, PipelineOptions([]))

    def evaluated(out: Path) -> None:
        if not (out / "run").exists():  # Its bundle is written too.
            shutil.copytree(place / "run", out / "copied")
            (out / "copied").rename(out / "run")
        evaluate.evaluate(workdir=out / "run", data_dir=data, split="validation")

    return {
        "build": lambda out: build(place / "raw", out) and None,
        "train": lambda out: (
            train.train(quick(), data_dir=place / "examples", workdir=out) and None
        ),
        "evaluate": evaluated,
        "explain": explain,
    }


def run(stage: Callable[[Path], None], out: Path, *, kill_after: float | None = None) -> float:
    """Run a stage in a process of its own; return how long it took, or -1 if it was killed."""
    out.mkdir(exist_ok=True)
    began, process = time.monotonic(), os.fork()
    if not process:
        os.setsid()
        log = os.open(out.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        code = 1
        try:
            stage(out)
            code = 0
        except BaseException:
            traceback.print_exc()
        os._exit(code)
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            break
        if kill_after is not None and time.monotonic() - began > kill_after:
            with contextlib.suppress(ProcessLookupError):  # It has not made its group yet.
                os.killpg(process, signal.SIGKILL)
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return -1.0
        time.sleep(0.002)
    if status:
        sys.exit(f"{out}: exit status {status}\n{out.with_suffix('.log').read_text()[-3000:]}")
    return time.monotonic() - began


def found(name: str, out: Path) -> dict[str, bytes]:
    """Return what has to be equal, by name."""
    unfinished = [p for p in out.rglob("*") if p.name == locks.FILE or "tmp" in p.name]
    if unfinished:
        sys.exit(f"left behind: {unfinished}")
    if name != "train":
        place = str(out).encode()  # A report holds the commands that made it.
        return {path: data.replace(place, b"OUT") for path, data in bundled.contents(out).items()}
    history = pd.read_csv(out / "history.csv").drop(columns=list(_COSTS))
    told = {"history": history.to_csv().encode(), "files": str(listed(out)).encode()}
    bundle = json.loads((out / "bundle.json").read_text())
    told["best"] = str(bundle["best_epoch"]).encode()
    told["weights"] = (out / bundles.WEIGHTS_FILE).read_bytes()
    return told


def listed(out: Path) -> list[str]:
    """Return the files of a run, without those of TensorBoard, one for each session."""
    paths = (path.relative_to(out) for path in out.rglob("*") if path.is_file())
    return sorted(str(path) for path in paths if path.parts[0] != "tensorboard")


def main() -> None:
    """Run the stages that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stages", nargs="*", default=["build", "train", "evaluate", "explain"])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    chance = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        writer = os.fork()  # The bundle is made by TensorFlow, which must not run before a fork.
        if not writer:
            prepare(place)
            os._exit(0)
        if os.waitpid(writer, 0)[1]:
            sys.exit("the photographs could not be prepared")
        for name in given.stages:
            stage, whole = stages(place)[name], place / f"{name}-all"
            took = run(stage, whole)
            expected, kills = found(name, whole), 0
            for number in range(given.rounds):
                out = place / f"{name}-{number:03d}"
                while (lasted := run(stage, out, kill_after=chance.uniform(0, took))) >= 0:
                    took = min(took, lasted)
                    shutil.rmtree(out)
                kills += 1
                for _ in range(chance.randint(0, 2)):
                    kills += run(stage, out, kill_after=chance.uniform(0, took)) < 0
                run(stage, out)
                told = found(name, out)
                if told != expected:
                    other = [
                        key for key in {**told, **expected} if told.get(key) != expected.get(key)
                    ]
                    sys.exit(f"{name}, round {number}: {other} differ")
                shutil.rmtree(out)
            print(f"{name}: {given.rounds} rounds, {kills} kills, nothing differs", flush=True)


if __name__ == "__main__":
    main()
