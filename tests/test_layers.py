"""Who may import whom, what a worker may load, and whether every command teaches itself."""

import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.helpers import ready
from tests.helpers.commands import COMMANDS

ROOT = Path(__file__).parents[1]
BEAM_FLAGS = "direct_|runner|dask_|project|region|temp_location"


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.skipif(find_spec("importlinter") is None, reason="import-linter is not installed")
def test_import_rules_hold():
    done = run(
        "-c",
        "import sys; from importlinter import cli;"
        "sys.exit(cli.lint_imports(config_filename='pyproject.toml', no_cache=True))",
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("package", ["dr_tfx", "beam_jobs"])
def test_import_rules_know_every_package(package):
    assert re.search(
        rf'^root_packages = .*"{package}"', (ROOT / "pyproject.toml").read_text(), re.M
    )


def test_workers_and_help_load_without_tensorflow():
    """A build worker starts in a second, and --help does not wait."""
    modules = (
        *COMMANDS.values(),
        "dr_tfx.config.specs",
        "dr_tfx.dataset.splits",
        "dr_tfx.preprocessing.recipes",
        "dr_tfx.dataset.records",
        "dr_tfx.dataset.manifest",
        "dr_tfx.statistics.metrics",
        "dr_tfx.tasks.binary.summary",
        "dr_tfx.evaluation.compare",
        "dr_tfx.evaluation.report",
        "dr_tfx.tasks.binary.report_figures",
        "dr_tfx.synthetic.fundus",
        "dr_tfx.synthetic.anatomy",
        "dr_tfx.synthetic.data_set",
        "beam_jobs.build_examples.job",
    )
    code = (
        "import sys, importlib\n"
        "from absl import flags\n"
        f"for module in {modules!r}:\n"
        "    importlib.import_module(module)\n"
        "    for name in ('tensorflow', 'keras', 'torch', 'tensorflow_addons'):\n"
        "        assert name not in sys.modules, f'{module} loads {name}'\n"
        "    if module.split('.')[1] == 'cli':\n"
        "        assert 'apache_beam' not in sys.modules, f'{module} loads Beam'\n"
        "    for owner in (module, 'dr_tfx.cli.run_settings', 'dr_tfx.cli.predict'):\n"
        "        for flag in flags.FLAGS.get_flags_for_module(owner):\n"
        "            delattr(flags.FLAGS, flag.name)\n"  # The next command may have the same flag.
    )
    done = run("-c", code)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "command, started_by",
    [
        *((command, "module") for command in COMMANDS),
        *((command, "console script") for command in ("drtfx-build-examples", "drtfx-predict")),
    ],
)
def test_help_teaches_the_command(command, started_by, tmp_path):
    module = COMMANDS[command]
    if started_by == "module":
        done = ready.run([sys.executable, "-m", module, "--help"])
    else:  # What setuptools writes into bin/.
        script = tmp_path / command
        script.write_text(
            f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n"
            f"from {module} import run\nif __name__ == '__main__':\n    sys.exit(run())\n"
        )
        done = run(str(script), "--help")
    assert done.returncode == 0, done.stderr
    assert f"{command} --" in done.stdout, "no example in the module's docstring"
    examples = "\n".join(re.findall(rf"{command}(?:.*\\\n)*.*", done.stdout))
    used = set(re.findall(r"--(\w+)", examples))
    if module.startswith("beam_jobs."):
        used = {flag for flag in used if not re.match(BEAM_FLAGS, flag)}
    assert used, examples
    for flag in used - {"config"}:
        assert re.search(rf"^\s+--(\[no\])?{flag}:", done.stdout, re.M), (
            f"--{flag} of the example is not explained:\n{done.stdout}"
        )


def test_commands_are_installed_as_documented():
    packaging = (ROOT / "setup.py").read_text()
    for command, module in COMMANDS.items():
        assert f'"{command}": "{module}"' in packaging


def test_worker_code_is_importable_by_name():
    """Functions of a module that runs as __main__ cannot be unpickled by a worker."""
    for path in (ROOT / "beam_jobs" / "cli").glob("*.py"):
        assert not re.search(r"\b(DoFn|PTransform)\b\)?:", path.read_text()), path


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_nothing_big_or_private_is_in_the_repository():
    done = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip("not a git checkout")
    for name in filter(None, done.stdout.split("\0")):
        path = ROOT / name
        if path.is_file():
            assert path.stat().st_size < 1_000_000, name
            assert path.suffix.lower() not in {".jpeg", ".jpg", ".tif", ".keras", ".h5"}, name
