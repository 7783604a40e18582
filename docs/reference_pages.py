"""The pages of the reference that are made of the code: commands, settings, metrics.json, Python.

Each function returns Markdown. Nothing here knows a command, a setting or a key by its name.
"""

import ast
import inspect
import re
import subprocess
import sys
import textwrap
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import entry_points
from pathlib import Path

from dr_tfx import tasks
from dr_tfx.config import declared, specs

ROOT = Path(__file__).parents[1]
_GROUPS: dict[str, type] = {
    "dataset": specs.DatasetSpec,
    "task": specs.Task,
    "model": specs.Model,
    "training": specs.Training,
    "evaluation": specs.Evaluation,
}
_LIST_OF_KEYS = re.compile(r"keys of\s+metrics\.json", re.IGNORECASE)
_KEY_COLUMN = re.compile(r"^ {4}(\S.*?)(?: {2,}(\S.*))?$")


def console_scripts() -> dict[str, str]:
    """Return the module of every command, by the command's name."""
    found = entry_points(group="console_scripts")
    return {e.name: e.module for e in found if e.name.startswith("drtfx-")}


def commands() -> str:
    """Return the page of the commands, made of the `--helpxml` of each."""
    parts = [
        "# Commands\n\nThis page is made of what `--help` prints. Every setting of a config can be "
        "changed on the command line of the commands that take `--config`, as in "
        "`--config.training.epochs=2`; see [Settings](config.md).\n"
    ]
    scripts = dict(sorted(console_scripts().items()))
    with ThreadPoolExecutor() as pool:
        for command, text in zip(scripts, pool.map(_command, scripts.values()), strict=True):
            parts.append(f"## {command}\n\n{text}")
    return "\n".join(parts)


def _command(module: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", module, "--helpxml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    start = done.stdout.find("<?xml")
    if start < 0:
        raise RuntimeError(f"{module} --helpxml printed no XML: {done.stdout}{done.stderr}")
    tree = ElementTree.fromstring(done.stdout[start:])
    rows = [
        f"| `--{flag.findtext('name')}` | {_cell(flag.findtext('meaning') or '')} "
        f"| {_default(flag.findtext('default') or '')} |"
        for flag in tree.iter("flag")
        if flag.findtext("key") == "yes"
    ]
    table = "\n".join(["| flag | meaning | default |", "|---|---|---|", *rows])
    return f"{prose(tree.findtext('usage') or '')}\n{table}\n"


def _default(text: str) -> str:
    return f"`{text}`" if text not in ("", "None") else ""


def _cell(text: str) -> str:
    return _escaped(" ".join(text.split())).replace("|", r"\|")


def _escaped(text: str) -> str:
    """Return plain text as Markdown, with what stands in backticks left alone."""
    parts = re.split(r"(`[^`]*`)", text)
    for i in range(0, len(parts), 2):  # The odd ones are in backticks.
        parts[i] = re.sub(r"([*\[\]]|\b_|_\b)", r"\\\1", parts[i]).replace("<", "&lt;")
    return "".join(parts)


def prose(text: str) -> str:
    """Return a docstring as Markdown: what is indented becomes a block of code."""
    blocks = re.split(r"\n\s*\n", text.strip("\n"))
    found = []
    for block in blocks:
        lines = textwrap.dedent(block)
        is_code = all(line.startswith((" ", "\t")) for line in block.splitlines())
        language = "sh" if lines.startswith("drtfx-") else "text"
        found.append(f"```{language}\n{lines.rstrip()}\n```" if is_code else _escaped(block))
    return "\n\n".join(found) + "\n"


def settings() -> str:
    """Return the page of the settings, made of the records that validate them."""
    parts = [
        "# Settings\n\nThis page is made of the records that check a config. A setting is changed "
        "in a config file (`config.training.epochs = 2`) or on the command line "
        "(`--config.training.epochs=2`). Unknown names, wrong types, values out of range and "
        "settings that contradict each other are refused before any work is done.\n"
    ]
    for group, record in _GROUPS.items():
        parts += _group(record, group, f"`{group}`")
        for name, kind in tasks.KINDS.items():
            own = {"task": kind.TASK, "evaluation": kind.EVALUATION}.get(group, record)
            if own is not record:
                parts += _group(own, group, f"`{group}`, of the kind `{name}`", beyond=record)
    return "\n".join(parts)


def _group(record: type, path: str, title: str, *, beyond: type = object) -> list[str]:
    """Return a section for a record's settings, and one for each record in it.

    Those that it inherits are among them, but for those of the class `beyond`.
    """
    own = declared.settings(record, beyond=beyond)
    if not own:
        return []
    nested = [field for field in own if field.is_group]
    parts = [f"## {title}\n\n{prose(inspect.getdoc(record) or '')}"]
    rows = [
        f"| `{path}.{field.name}` | `{_in_cell(field.annotation)}` | `{field.default}` "
        f"| {_cell(field.comment)} |".replace("``", "")
        for field in own
        if field not in nested
    ]
    if rows:
        parts.append("\n".join(["| setting | type | default | |", "|---|---|---|---|", *rows]))
        parts.append("")
    for field in nested:
        parts += _group(field.kind, f"{path}.{field.name}", f"`{path}.{field.name}`")
    return parts


def _in_cell(code: str) -> str:
    return code.replace("|", r"\|")


def metrics() -> str:
    """Return the page of metrics.json, made of the lists of keys in the modules that write them."""
    parts = [
        "# metrics.json\n\n`drtfx-evaluate` writes this file beside the report. Its keys are "
        "sorted, and the same predictions give the same bytes. This page is made of the lists in "
        "the code: each kind of task has its own.\n"
    ]
    package = ROOT / "dr_tfx"
    for path in [*sorted(package.glob("evaluation/*.py")), *sorted(package.glob("tasks/*/*.py"))]:
        doc = _docstring(path)
        found = _LIST_OF_KEYS.search(doc)
        if found:
            is_kind = path.parent.parent.name == "tasks"
            of_engine = "A cross-validation" if path.stem == "out_of_fold" else "Every kind"
            title = f"The kind `{path.parent.name}`" if is_kind else of_engine
            start = doc.rfind("\n\n", 0, found.start()) + 2
            parts.append(f"## {title}\n\n{_keys(doc[start:])}")
    if len(parts) == 1:
        raise RuntimeError("No module of dr_tfx lists the keys of metrics.json.")
    return "\n".join(parts)


def _keys(text: str) -> str:
    """Return words and a list of keys, each indented by four spaces, as prose and a table."""
    words, rows = [], []
    for line in text.splitlines():
        found = _KEY_COLUMN.match(line)
        if found:
            rows.append([found[1], found[2] or ""])
        elif rows and line.strip():
            rows[-1][1] += " " + line.strip()
        elif not rows:
            words.append(line)
    table = "\n".join(f"| `{key}` | {_cell(text.strip())} |" for key, text in rows)
    return f"{prose(chr(10).join(words))}\n| key | content |\n|---|---|\n{table}\n"


def packages() -> dict[str, tuple[str, str]]:
    """Return path and text of the page of every package of `dr_tfx` and `beam_jobs`, by its name.

    The face has a page that is written, and the commands have theirs.
    """
    found = {}
    inits = [*ROOT.glob("dr_tfx/*/**/__init__.py"), *ROOT.glob("beam_jobs/*/__init__.py")]
    for init in sorted(path for path in inits if path.parent.name != "cli"):
        name = ".".join(init.parent.relative_to(ROOT).parts)
        words = _escaped(_docstring(init))
        if _defines_anything(init):
            words = f"::: {name}\n    options: {{show_root_heading: false, show_submodules: false}}"
        parts = [f"# {name}\n\n{words}\n"]
        for module in sorted(init.parent.glob("[!_]*.py")):
            parts.append(f"::: {name}.{module.stem}\n")
        found[name] = (f"reference/python/{name}.md", "\n".join(parts))
    return found


def _docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""


def _defines_anything(path: Path) -> bool:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return any(isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AnnAssign) for node in body)
