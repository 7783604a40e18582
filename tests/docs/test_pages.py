"""README and pages: their size, their translation, and whether what they show exists."""

import ast
import json
import os
import re
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from dr_tfx import tasks
from dr_tfx.config import specs, typed
from tests.helpers import ready
from tests.helpers.commands import COMMANDS

ROOT = Path(__file__).parents[2]
README, KOREAN = ROOT / "README.md", ROOT / "README.ko.md"
PAGES = [README, KOREAN, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
GROUPS = "dataset|task|model|training|evaluation"
# Functions and files of such names.
NOT_SETTINGS = r"\.(fit|save|json|keras|onnx|xml|bin|tflite|pbtxt|h5|html\.j2)$"


def blocks(text: str) -> list[tuple[str, str]]:
    """The blocks of code of a page: language and content."""
    return re.findall(r"^ *```(\w*)\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)


def headings(text: str) -> list[str]:
    without_code = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"^#+ .*", without_code, re.MULTILINE)


def links(text: str) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", text)


def slug(heading: str) -> str:
    words = re.sub(r"[^\w\s-]", "", heading.lstrip("# ").lower())
    return re.sub(r"\s+", "-", words.strip())


def settings() -> set[str]:
    """Every dotted name of a setting, of every kind of task."""

    def walk(values: dict, path: str) -> Iterator[str]:
        for key, value in values.items():
            yield f"{path}{key}"
            if isinstance(value, dict):
                yield from walk(value, f"{path}{key}.")

    groups = [
        specs.Experiment(task=kind.TASK(), evaluation=kind.EVALUATION())
        for kind in tasks.KINDS.values()
    ]
    return {name for group in groups for name in walk(typed.to_dict(group), "")}


def sources() -> Iterator[tuple[str, str]]:
    """Name and text of every page, with the cells of the notebooks as blocks of code."""
    for page in PAGES:
        yield page.name, page.read_text(encoding="utf-8")
    for notebook in NOTEBOOKS:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        texts = ["".join(cell["source"]) for cell in cells]
        yield notebook.name, "\n".join(f"```sh\n{text}\n```" for text in texts)


def invocations() -> Iterator[tuple[str, str, list[str]]]:
    """Page, command and flags of every command that a page shows in a block of code."""
    for name, text in sources():
        for _, code in blocks(text):
            for line in code.replace("\\\n", " ").splitlines():
                found = re.search(r"(?<![\w-])(drtfx-[\w-]+)(.*)", line)
                if found:
                    yield name, found[1], re.findall(r"(?<=[\s\"'])--[\w.]+", found[2])


def own_flags(command: str) -> set[str]:
    done = ready.run([sys.executable, "-m", COMMANDS[command], "--helpxml"])
    tree = ElementTree.fromstring(done.stdout[done.stdout.index("<?xml") :])
    return {f"--{flag.findtext('name')}" for flag in tree.iter("flag")}


@pytest.fixture(scope="module")
def flags() -> dict[str, set[str]]:
    """The flags that each command takes, Beam's included."""
    from apache_beam.options import pipeline_options
    from apache_beam.runners.dask import dask_runner  # noqa: F401  (has options of its own)

    parser = pipeline_options._BeamArgumentParser(allow_abbrev=False)
    for options in pipeline_options.PipelineOptions.__subclasses__():
        if "_add_argparse_args" in vars(options):
            options._add_argparse_args(parser)
    of_beam = {flag for action in parser._actions for flag in action.option_strings}
    found = {name: own_flags(name) for name in COMMANDS}
    is_beam = {name: module.startswith("beam_jobs.") for name, module in COMMANDS.items()}
    return {name: own | (of_beam if is_beam[name] else set()) for name, own in found.items()}


@pytest.mark.parametrize("page", [README, KOREAN], ids=lambda page: page.name)
def test_readme_fits_on_two_screens(page):
    assert page.stat().st_size <= 8_000


def test_korean_readme_says_the_same():
    english, korean = (page.read_text(encoding="utf-8") for page in (README, KOREAN))
    assert blocks(korean) == blocks(english)
    depths = [[heading.count("#") for heading in headings(t)] for t in (english, korean)]
    assert depths[0] == depths[1]
    assert set(links(korean)) - {"README.md"} == set(links(english)) - {"README.ko.md"}
    # Figures of the results table, whatever the words beside them.
    figures = [
        [line.split("|")[2:] for line in text.splitlines() if re.match(r"\| `\w+`,", line)]
        for text in (english, korean)
    ]
    assert figures[0] == figures[1] and len(figures[0]) >= 4


@pytest.mark.parametrize("page", [README, KOREAN, ROOT / "CONTRIBUTING.md"], ids=lambda p: p.name)
def test_links_outside_of_the_site_resolve(page):
    """Those between the pages of the site are checked by `mkdocs build --strict`."""
    for link in links(page.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        target = page.parent / path
        assert target.exists(), link
        if anchor:
            assert anchor in map(slug, headings(target.read_text(encoding="utf-8"))), link


def test_commands_and_flags_of_the_pages_exist(flags):
    shown, known = list(invocations()), settings()
    assert len(shown) > 30
    for page, command, used in shown:
        assert command in COMMANDS, f"{page}: {command}"
        for flag in used:
            if flag.startswith("--config."):
                assert "--config" in flags[command], f"{page}: {command} {flag}"
                assert flag.removeprefix("--config.") in known, f"{page}: {command} {flag}"
            else:
                assert flag in flags[command], f"{page}: {command} {flag}"


def test_settings_of_the_pages_exist():
    known, shown = settings(), []
    for page, text in sources():
        for name in re.findall(rf"`(?:--)?(?:config\.)?((?:{GROUPS})\.[\w.]+)", text):
            if not re.search(NOT_SETTINGS, name):
                shown.append(name)
                assert name in known, f"{page}: {name}"
    assert len(shown) > 20


def test_every_command_is_in_the_quickstart():
    quickstart = (ROOT / "docs" / "guides" / "quickstart.md").read_text(encoding="utf-8")
    for command in COMMANDS:
        assert f"| `{command}` |" in quickstart


def test_notebooks_are_committed_without_outputs():
    assert NOTEBOOKS
    for notebook in NOTEBOOKS:
        for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
            assert not cell.get("outputs"), f"{notebook.name}: {cell['id']}"


@pytest.mark.skipif(
    find_spec("tensorflow_addons") is not None, reason="half a minute; the other stack runs it"
)
def test_ten_lines_of_python_run(tmp_path):
    (code,) = (code for language, code in blocks(README.read_text()) if language == "python")
    assert len([line for line in code.splitlines() if line]) == 10
    # As it is, but for a network that is traced in less time.
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "smoke.py").write_text(
        "from dr_tfx.config import config_files\n"
        "def get_config():\n"
        f"    config = config_files.load({str(ROOT / 'configs' / 'smoke.py')!r})\n"
        "    config.model.backbone, config.model.output_stride = 'PlainConvolutions', 8\n"
        "    return config\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    done = ready.run([sys.executable, "-c", code], cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    auc, answer = (ast.literal_eval(line) for line in done.stdout.splitlines()[-2:])
    assert auc["low"] <= auc["value"] <= auc["high"]
    assert set(answer) > {"probability", "score", "decision", "threshold"}
    assert 0 < answer["score"] < 1 and answer["decision"] in ("normal", "abnormal")
    assert (tmp_path / "run" / "evaluation" / "validation" / "report.html").is_file()
