"""Run every command on synthetic photographs: a few minutes on two cores, no download, no GPU.

    drtfx-demo --output_dir=demo

    drtfx-demo --config=ct_hemorrhage --output_dir=demo_ct
    drtfx-demo --config=glaucoma --output_dir=demo_discs
    drtfx-demo --config=lesions --output_dir=demo_lesions

It runs the commands that you would type, one after the other, and prints each: synthesize, build
examples, train, evaluate, explain, predict. `ct_hemorrhage` is on head CT, `glaucoma` on optic
discs, and `lesions` learns the masks of lesions, of which no heat maps are drawn: each is the
variant for drawn images of the config of its name. OUTPUT_DIR then holds

    raw/        photographs, masks/ and labels.csv, as drtfx-synthesize draws them
    data/       TFRecord shards and dataset.json
    run/        the trained bundle and run/evaluation/validation/report.html
    explained/  heat maps of the whole validation split and three figures

If it is interrupted, the same command goes on behind the last command that was finished.

A small network learns large, drawn lesions. The AUC or Dice that it reaches says that the
commands work together, and nothing about patients. The last line printed is the path of the report.
"""

import contextlib
import json
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import app, flags

from dr_tfx.cli import console
from dr_tfx.config import config_files
from dr_tfx.machine import interrupts
from dr_tfx.storage import files, json_files, locks
from dr_tfx.words import languages

_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "New or empty folder.", required=True)
_CONFIG = flags.DEFINE_string(
    "config", "smoke", "Config of the run: a file, or a name such as lesions or ct_hemorrhage."
)
_NUM_PATIENTS = flags.DEFINE_integer(
    "num_patients",
    None,
    "Synthetic patients; by default 500 of two photographs each, 250 for glaucoma, 60 for lesions, "
    "or 100 of eight slices.",
    lower_bound=20,
)
_LANG = flags.DEFINE_enum("lang", *console.LANGUAGE)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the synthetic photographs.")

# The severe grades are commoner than in EyePACS, so that few photographs hold enough of them. Mild
# ones are rare: their microaneurysms are a pixel or two wide at 96 px, and a network that learned
# all other grades ranks them little better than chance (AUC .6), so that the AUC of the whole
# would depend on how many there happen to be.
_GRADES = "0.5,0.02,0.12,0.18,0.18"


class _Drawing(NamedTuple):
    """The images that a demo draws."""

    num_patients: int
    flags: tuple[str, ...]  # Of drtfx-synthesize.
    explain: tuple[str, ...] = ()  # Of drtfx-explain.
    name: str = ""  # Of the data set, where the config serves other photographs, too.
    has_masks: bool = False  # Whether the masks are learned, which leaves nothing to explain.


_EYES = _Drawing(500, (f"--grade_probabilities={_GRADES}",), name="drawn photographs")
# By the name of the config. The places of Grad-CAM lie around a bleed, and not on it.
_TASKS = {
    "ct_hemorrhage": _Drawing(100, ("--condition=hemorrhage",), ("--method=occlusion",)),
    "glaucoma": _Drawing(250, ("--condition=glaucoma",)),
    "lesions": _Drawing(60, ("--grade_probabilities=0.1,0.02,0.28,0.3,0.3",), has_masks=True),
}
_SPEAKING = {"drtfx-build-examples", "drtfx-evaluate", "drtfx-explain", "drtfx-predict"}
_RECORD = "demo.json"  # The flags, and the number of commands that are finished.
_PATIENCE = 20.0  # Seconds in which a command may end after Ctrl-C.
_LEAST_AUC = 0.9  # Less, with the default number of patients or more, is an error,
_LEAST_DICE = 0.8  # and so is less than this as the mean of the lesions.
# A command is printed by its installed name and run as a module by this very interpreter, so that
# it does not matter which programs the PATH finds.
_MODULES = {
    "drtfx-synthesize": "dr_tfx.cli.synthesize",
    "drtfx-build-examples": "beam_jobs.cli.build_examples",
    "drtfx-train": "dr_tfx.cli.train",
    "drtfx-evaluate": "beam_jobs.cli.evaluate",
    "drtfx-explain": "beam_jobs.cli.explain",
    "drtfx-predict": "beam_jobs.cli.predict",
}


def commands(
    output_dir: Path, *, config: str, num_patients: int | None, seed: int
) -> list[tuple[str, ...]]:
    """Return the commands as a user would type them, without the last, `predict_command`."""
    drawing, config = _TASKS.get(config, _EYES), _path(config)
    raw, data, run = output_dir / "raw", output_dir / "data", output_dir / "run"
    on_validation = (f"--workdir={run}", f"--data_dir={data}", "--split=validation")
    labels: tuple[str, ...] = (f"--labels={raw / 'labels.csv'}",)
    maps = f"--output_dir={output_dir / 'explained'}"
    explain = [("drtfx-explain", *on_validation, *drawing.explain, maps)]
    if drawing.has_masks:
        labels, explain = ("--labels=masks", f"--masks_dir={raw / 'masks'}"), []
    return [
        (
            "drtfx-synthesize",
            f"--output_dir={raw}",
            f"--num_patients={num_patients or drawing.num_patients}",
            f"--seed={seed}",
            *drawing.flags,
        ),
        (
            "drtfx-build-examples",
            f"--config={config}",
            f"--image_dir={raw}",
            *labels,
            f"--output_dir={data}",
            *([f"--config.dataset.name={drawing.name}"] if drawing.name else []),
        ),
        ("drtfx-train", f"--config={config}", f"--data_dir={data}", f"--workdir={run}"),
        ("drtfx-evaluate", *on_validation),
        *explain,
    ]


def _path(config: str) -> str:
    """Return what --config of the commands takes: a name or a file, with a variant if there is."""
    return f"{config}:demo" if config in _TASKS else config


def predict_command(output_dir: Path, *, has_masks: bool = False) -> tuple[str, ...]:
    """Return the command that scores two photographs: of the lowest and the highest score, if any.

    Args:
      output_dir: of the demo.
      has_masks: whether masks were learned, which have neither a score nor a heat map.
    """
    import pandas as pd  # It is imported here, so that --help is quick.

    table = output_dir / "run" / "evaluation" / "validation" / "predictions.csv"
    found = pd.read_csv(table, dtype={"id": str})
    ids = found["id"] if has_masks else found.sort_values("score")["id"]
    raw = output_dir / "raw"
    files_of = {path.stem: path for path in raw.rglob("*.*") if path.suffix in (".jpeg", ".dcm")}
    photos = [str(files_of[ids.iloc[i]]) for i in (0, -1)]
    plain = ("--nofigures",) * has_masks
    return ("drtfx-predict", f"--workdir={output_dir / 'run'}", *plain, *photos)


def main(argv: Sequence[str]) -> None:
    """Run every command and print a summary; exit with the code of the first that fails."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    output_dir = Path(_OUTPUT_DIR.value)
    config = Path(config_files.find(_path(_CONFIG.value)).partition(":")[0])
    with locks.held(output_dir):
        finished = _finished(output_dir)
        if not config.is_file():
            sys.exit(f"error: {config_files.unknown(_CONFIG.value)}")
        _run_all(output_dir, finished=finished)


def _finished(output_dir: Path) -> int:
    """Return how many commands of an interrupted demo are finished in the folder.

    Raises:
      ValueError: the folder holds something else.
    """
    record = output_dir / _RECORD
    if not record.is_file():
        if any(path.name != locks.FILE for path in output_dir.iterdir()):
            raise ValueError(f"{output_dir} is not an empty folder; remove it or give another one.")
        return 0
    made = json_files.read(record)
    finished = made.get("finished")
    if made.get("flags") != _flags() or not isinstance(finished, int):
        raise ValueError(
            f"{output_dir} holds a demo of other flags, {made.get('flags')}; remove it or give "
            "another folder."
        )
    return finished


def _note(output_dir: Path, finished: int) -> None:
    record = {"flags": _flags(), "finished": finished}
    files.write_text(output_dir / _RECORD, json.dumps(record) + "\n")


def _flags() -> dict[str, str | int | None]:
    return {flag.name: flag.value for flag in (_CONFIG, _NUM_PATIENTS, _SEED, _LANG)}


def _run_all(output_dir: Path, *, finished: int) -> None:
    steps = commands(
        output_dir,
        config=_CONFIG.value,
        num_patients=_NUM_PATIENTS.value,
        seed=_SEED.value,
    )
    started = time.monotonic()
    _note(output_dir, finished)
    for number, step in enumerate(steps, start=1):
        if number > finished:
            _run(step, f"{number}/{len(steps) + 1}")
            _note(output_dir, number)
    drawing = _TASKS.get(_CONFIG.value, _EYES)
    last = predict_command(output_dir, has_masks=drawing.has_masks)
    _run(last, f"{len(steps) + 1}/{len(steps) + 1}")
    _summary(output_dir, drawing, minutes=(time.monotonic() - started) / 60)


def _run(command: Sequence[str], number: str) -> None:
    name, *arguments = command
    if name in _SPEAKING and _LANG.value != languages.ENGLISH:
        arguments = [f"--lang={_LANG.value}", *arguments]
        command = [name, *arguments]
    print(f"\n[{number}] $ {shlex.join(command)}", flush=True)
    started = time.monotonic()
    with subprocess.Popen([sys.executable, "-m", _MODULES[name], *arguments]) as process:
        try:
            code = process.wait()
        except KeyboardInterrupt:
            _end(process)
            raise
    if code:
        print(
            f"\nerror: {name} ended with exit code {code}; its own message is above. "
            "The command can be typed again as printed.",
            file=sys.stderr,
        )
        sys.exit(code if code > 0 else 1)
    print(f"[{number}] {name}: {time.monotonic() - started:.0f} s", flush=True)


def _end(process: subprocess.Popen) -> None:
    """Let a command end in its own way: the training saves its state."""
    if interrupts.received() == signal.SIGINT:  # A terminal gives Ctrl-C to the command as well.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_PATIENCE)
    process.terminate()
    process.wait()


def _summary(output_dir: Path, drawing: _Drawing, *, minutes: float) -> None:
    """Print what was reached; exit if it is less than what a model that has learned reaches."""
    report = output_dir / "run" / "evaluation" / "validation" / "report.html"
    metrics = json.loads((report.parent / "metrics.json").read_text(encoding="utf-8"))
    of = _of_masks if drawing.has_masks else _of_labels
    name, figure, least, more = of(metrics)
    heat_maps = "" if drawing.has_masks else f"Heat maps  {output_dir / 'explained'}\n"
    print(
        f"\nDone in {minutes:.1f} minutes. On {metrics['counts']['images']} validation images "
        f"of {metrics['counts']['patients']} synthetic patients: {name} {figure['value']:.3f} "
        f"({figure['low']:.3f}–{figure['high']:.3f}), {more}.\n"
        f"Images     {output_dir / 'raw'}\n"
        f"{heat_maps}"
        f"Report     (open it in a browser)"
    )
    is_enough = (_NUM_PATIENTS.value or drawing.num_patients) >= drawing.num_patients
    if figure["value"] < least and is_enough:
        sys.exit(f"error: the {name} is below {least}: the model has not learned. See {report}")
    print(report)


_Reached = tuple[str, Mapping[str, float], float, str]


def _of_labels(metrics: Mapping[str, Any]) -> _Reached:
    """Return a figure's name, its interval, the least of it, and words on what else there is."""
    tta = metrics["scores"]["tta"]
    rates = tta["at_threshold"]["rates"]
    words = (f"{name} {rates[name]['value']:.1%}" for name in ("sensitivity", "specificity"))
    return "AUC", tta["auc"], _LEAST_AUC, ", ".join(words)


def _of_masks(metrics: Mapping[str, Any]) -> _Reached:
    """Return the same of lesions."""
    words = (f"{row['name']} {row['dice']['value']:.3f}" for row in metrics["lesions"])
    return "mean Dice", metrics["figures"]["dice"], _LEAST_DICE, ", ".join(words)


def run() -> None:
    """Run the console script."""
    console.run(main, module=__name__, doc=__doc__)


if __name__ == "__main__":
    run()
