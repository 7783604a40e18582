"""The commands: name of the console script -> its module, in the order of the line."""

import json
import sys
from pathlib import Path

from dr_tfx.config import seeds, specs, typed

COMMANDS = {
    "drtfx-synthesize": "dr_tfx.cli.synthesize",
    "drtfx-inspect": "beam_jobs.cli.inspect_input",
    "drtfx-build-examples": "beam_jobs.cli.build_examples",
    "drtfx-config": "dr_tfx.cli.config",
    "drtfx-pretrain": "dr_tfx.cli.pretrain",
    "drtfx-train": "dr_tfx.cli.train",
    "drtfx-evaluate": "beam_jobs.cli.evaluate",
    "drtfx-explain": "beam_jobs.cli.explain",
    "drtfx-predict": "beam_jobs.cli.predict",
    "drtfx-compare": "dr_tfx.cli.compare",
    "drtfx-crossvalidate": "dr_tfx.cli.crossvalidate",
    "drtfx-ensemble": "dr_tfx.cli.ensemble",
    "drtfx-export": "dr_tfx.cli.export",
    "drtfx-serve": "dr_tfx.cli.serve",
    "drtfx-push": "dr_tfx.cli.push",
    "drtfx-demo": "beam_jobs.cli.demo",
}

_CODE = "from {module} import run; run()"
_WITH_BACKBONES = f"""
from dr_tfx.machine import tensorflow_start
tensorflow_start.load()
from tests.helpers import backbones
{_CODE}
"""
_WITHOUT_A_MODEL = ("drtfx-synthesize", "drtfx-inspect", "drtfx-build-examples", "drtfx-compare")
_CONFIG = """
import json, ml_collections
def get_config():
    return ml_collections.ConfigDict(json.loads({settings!r}))
"""


def line(command: str, *arguments: str) -> list[str]:
    """Return the command line of a command that also knows the backbones of the tests."""
    code = _CODE if command in _WITHOUT_A_MODEL else _WITH_BACKBONES
    return [sys.executable, "-c", code.format(module=COMMANDS[command]), *arguments]


def train_line(experiment: specs.Experiment, data_dir: Path, workdir: Path) -> list[str]:
    """Return the command line of drtfx-train, which also knows the backbones of the tests.

    Its config file is written beside the folder of the data.
    """
    settings = typed.to_dict(experiment)
    config = data_dir.parent / f"config-{seeds.stable_hash(str(settings))}.py"
    config.write_text(_CONFIG.format(settings=json.dumps(settings)))
    flags = [f"--config={config}", f"--data_dir={data_dir}", f"--workdir={workdir}"]
    return line("drtfx-train", *flags)
