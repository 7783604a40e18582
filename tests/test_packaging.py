"""The distribution: its packages, and the extras without which a command says what to type."""

import email
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.helpers.commands import COMMANDS

ROOT = Path(__file__).parents[1]
SOURCES = ("dr_tfx", "beam_jobs", "configs", "setup.py", "pyproject.toml", "README.md", "LICENSE")
WITHOUT_TENSORFLOW = """
import runpy, sys
module, *sys.argv[1:] = sys.argv[1:]
sys.modules |= dict.fromkeys(("tensorflow", "keras"))
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """The folder of a run."""
    from tests.helpers import bundled  # And so TensorFlow, which the other tests do without.

    return bundled.evaluated_bundle(tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder that holds what an installation puts beside other people's packages."""
    clone, folder = tmp_path_factory.mktemp("clone"), tmp_path_factory.mktemp("installed")
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, clone / name)
    wheel = ["wheel", "-q", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run(
        [sys.executable, "-m", "pip", *wheel, f"--wheel-dir={folder}", str(clone)], check=True
    )
    (packed,) = folder.glob("*.whl")
    into = ["-q", "--ignore-installed", "--no-deps", "--no-index", f"--prefix={folder}"]
    subprocess.run([sys.executable, "-m", "pip", "install", *into, str(packed)], check=True)
    (info,) = folder.rglob("*.dist-info")
    return info.parent


@pytest.mark.parametrize(
    "lock, extras",
    [
        ("default", {"", "dataflow", "lint", "s3", "test", "train"}),
        ("docs", {"", "docs"}),
        ("image", {"", "image"}),
        ("jobs", {"", "jobs"}),
        ("addons", {"", "addons", "test"}),
    ],
)
def test_a_lock_holds_what_setup_py_asks_for(installed, lock, extras):
    """What is added to setup.py needs `make lock`; no address of a registry is in a lock."""
    text = (ROOT / "locks" / f"{lock}.txt").read_text()
    assert "://" not in text and "--index" not in text and "--find-links" not in text
    pinned = {}
    for line in text.splitlines():
        if line[:1].isalnum():
            pin = Requirement(line.rstrip("\\"))
            if pin.marker is None or pin.marker.evaluate({"python_full_version": "3.11.0"}):
                pinned[canonicalize_name(pin.name)] = str(pin.specifier).removeprefix("==")
    (info,) = installed.glob("*.dist-info")
    asked = email.message_from_string((info / "METADATA").read_text()).get_all("Requires-Dist")
    wanted = [Requirement(line) for line in asked]
    at = {"python_version": "3.11"}
    for one in wanted:
        if any(one.marker is None or one.marker.evaluate({**at, "extra": e}) for e in extras):
            assert one.specifier.contains(pinned[canonicalize_name(one.name)]), one


@pytest.mark.parametrize(
    "found, said, is_well",
    [
        ([{"name": "a", "version": "1", "vulns": []}], "x: 1 of 1 packages were checked", True),
        ([], "x: NOT CHECKED. pip-audit lists no package", False),
        ([{"name": "a", "skip_reason": "no answer"}], "x: NOT CHECKED. The database of", False),
        (
            [
                {"name": "a", "version": "1", "vulns": [{"id": "PY-1", "fix_versions": ["2"]}]},
                {"name": "b", "skip_reason": "not found"},
            ],
            "x: 1 of 2 packages were checked\nx: NOT CHECKED: b\nx: HOLE in a 1: PY-1, mended in 2",
            False,
        ),
    ],
)
def test_an_audit_without_answers_says_so(found, said, is_well):
    """The reports are those of pip-audit 2.10, which passes where it found no package at all."""
    audit = runpy.run_path(str(ROOT / "locks" / "audit.py"))
    told, well = audit["verdict"]("x", {"dependencies": found})
    assert told.startswith(said) and well == is_well


def test_an_installation_has_two_packages_and_no_configs(installed):
    (info,) = installed.glob("*.dist-info")
    assert {path.name for path in installed.iterdir()} == {"dr_tfx", "beam_jobs", info.name}
    assert (installed / "dr_tfx" / "reports" / "templates" / "style.css").is_file()
    scripts = (info / "entry_points.txt").read_text()
    assert all(f"{name} = {module}:run" in scripts for name, module in COMMANDS.items())


@pytest.mark.parametrize("config", [f"{ROOT}/configs/reference.py", "smoke"])
def test_a_config_works_by_path_and_name_beside_the_configs_of_somebody_else(
    installed, tmp_path, config
):
    other = tmp_path / "configs"
    other.mkdir()
    (other / "__init__.py").write_text("raise SystemExit('the wrong configs')\n")
    (tmp_path / "labels.csv").write_text("image,level\n1_left,0\n1_right,1\n2_left,0\n")
    done = subprocess.run(
        [
            *(
                sys.executable,
                "-m",
                "beam_jobs.cli.build_examples",
                "--plan",
                "--labels=labels.csv",
            ),
            f"--config={config}",
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{installed}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert '"rows": 3' in done.stdout


@pytest.mark.parametrize(
    "command, arguments",
    [
        (
            "drtfx-train",
            [
                *("--config=smoke", "--config.model.output_stride=4"),
                "--config.task.label_map=(0, 1, 1)",
                *("--data_dir=BUILT", "--workdir=w"),
            ],
        ),
        ("drtfx-evaluate", ["--workdir=RUN", "--data_dir=d"]),
        ("drtfx-evaluate", ["--workdir=RUN", "--external_dir=e", "--labels=l"]),
        ("drtfx-explain", ["--workdir=RUN", "--data_dir=d", "--output_dir=o"]),
        ("drtfx-predict", ["--workdir=RUN", "x.jpeg"]),
    ],
)
def test_a_command_that_lacks_tensorflow_says_the_line_to_type(command, arguments, built, trained):
    folders = {"BUILT": str(built), "RUN": str(trained)}
    for name, folder in folders.items():
        arguments = [argument.replace(name, folder) for argument in arguments]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TENSORFLOW, COMMANDS[command], *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert re.fullmatch(
        r"error: the module (tensorflow|keras) is not installed: this command needs TensorFlow, "
        r"and what reports are made with[.] Type: pip install 'dr_tfx\[train\]'",
        done.stderr.splitlines()[-1],  # Beam may warn before that of what else is missing.
    )
