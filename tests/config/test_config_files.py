"""Config files are loaded by path, from anywhere, and whatever else is called `configs`."""

import ast
import os
import sys
from pathlib import Path

import pytest

from dr_tfx import tasks
from dr_tfx.config import config_files
from tests.helpers import ready
from tests.helpers.configs import FOLDER

ROOT = Path(__file__).parents[2]
CONFIGS = sorted(FOLDER.glob("*.py"))


def test_the_config_of_an_experiment_has_its_settings_and_no_others():
    config = config_files.to_config(tasks.from_config({"training": {"epochs": 7}}))
    assert config.training.epochs == 7
    assert config.model.dropout == (0.2,), "a flag can override tuples, not lists"
    with pytest.raises((AttributeError, KeyError)):
        config.lock().training.epoch = 3


def test_a_config_starts_from_its_neighbour(tmp_path):
    (tmp_path / "first.py").write_text(
        "from dr_tfx import tasks\n"
        "from dr_tfx.config import config_files\n"
        "def get_config():\n"
        "    return config_files.to_config(tasks.from_config({'training': {'epochs': 7}}))\n"
    )
    (tmp_path / "second.py").write_text(
        "from dr_tfx.config import config_files\n"
        "def get_config():\n"
        "    config = config_files.load_beside(__file__, 'first.py')\n"
        "    config.training.batch_size = 5\n"
        "    return config\n"
    )
    second = config_files.load(tmp_path / "second.py")
    assert (second.training.epochs, second.training.batch_size) == (7, 5)
    assert config_files.load(tmp_path / "first.py").training.batch_size == 32
    (tmp_path / "first.py").unlink()
    with pytest.raises(FileNotFoundError, match=r"second.py starts from .*first.py"):
        config_files.load(tmp_path / "second.py")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_loads_where_another_package_is_called_configs(path, tmp_path):
    (tmp_path / "configs").mkdir()
    for name in ("__init__", "base", "dr_binary", "eyepacs"):
        (tmp_path / "configs" / f"{name}.py").write_text("raise ImportError('not ours')")
    code = (
        "import sys; from absl import flags; from ml_collections import config_flags;"
        "config = config_flags.DEFINE_config_file('config');"
        "flags.FLAGS(sys.argv); print(config.value.task.name)"
    )
    # The current folder comes first on the path, as for `python -m` and notebooks.
    done = ready.run(
        [sys.executable, "-c", code, f"--config={os.path.relpath(path, tmp_path)}"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == config_files.load(path).task.name


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_imports_the_library_and_nothing_else_of_the_repository(path):
    imported = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module)
    assert imported <= {"ml_collections", "dr_tfx", "dr_tfx.config"}
