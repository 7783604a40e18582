"""Notebooks become pages: their cells are run in an empty folder, and what they give is shown."""

import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbconvert import MarkdownExporter

ROOT = Path(__file__).parents[1]
_SECONDS = 600  # The longest that one cell may take.


def pages(notebook: Path, *, execute: bool) -> dict[str, str | bytes]:
    """Return the page of a notebook and the pictures on it, by their paths below docs/.

    Args:
      notebook: a file of docs/notebooks/.
      execute: run the cells first, but for those tagged `skip-execution`.

    Raises:
      nbclient.exceptions.CellExecutionError: a cell failed.
    """
    content = nbformat.read(notebook, as_version=4)
    if execute:
        run(content)
    text, resources = MarkdownExporter().from_notebook_node(
        content, {"unique_key": notebook.stem, "output_files_dir": f"{notebook.stem}_files"}
    )
    folder = "notebooks/"
    download = f"[Download this notebook]({notebook.name})\n\n"
    title, _, rest = text.lstrip().partition("\n")
    pictures = {folder + name: data for name, data in resources.get("outputs", {}).items()}
    return {f"{folder}{notebook.stem}.md": f"{title}\n\n{download}{rest}", **pictures}


def run(content: nbformat.NotebookNode) -> None:
    """Run the cells in an empty folder, in which `code` is this repository.

    What they log is left out: progress bars, and what TensorFlow says of the machine.
    """
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    os.environ["PYTHONPATH"] = str(ROOT)
    with tempfile.TemporaryDirectory() as folder:
        working = Path(folder) / "working"  # As on Kaggle, where ../input holds what was attached.
        working.mkdir()
        (working / "code").symlink_to(ROOT)
        NotebookClient(
            content,
            coalesce_streams=True,
            kernel_name="python3",
            resources={"metadata": {"path": str(working)}},
            timeout=_SECONDS,
        ).execute()
    for cell in content.cells:
        if cell.cell_type == "code":
            cell.outputs = [out for out in cell.outputs if out.get("name") != "stderr"]
