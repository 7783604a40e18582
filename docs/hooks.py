"""Additions of MkDocs to the written pages: reference, executed notebooks, changelog.

Nothing of this lies in the repository as text, so that it cannot differ from the code. `mkdocs
serve` shows notebooks without running them.
"""

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from docs import notebook_pages, reference_pages  # noqa: E402  (needs the path above)

_FETCHED = re.compile(r'<(?:script|img|iframe|source)[^>]*\ssrc="?(https?:[^" >]*)')
_LINKED = re.compile(r'<link(?![^>]*rel="?canonical)[^>]*\shref="?(https?:[^" >]*)')
_serving = False


def on_startup(command: str, dirty: bool) -> None:
    """Remember whether the site is built or served."""
    global _serving
    _serving = command == "serve"


def on_config(config: Any) -> Any:
    """Add a page for every package to the navigation, below Reference."""
    reference = next(part["Reference"] for part in config.nav if "Reference" in part)
    python = next(part for part in reference if "Python" in part)
    pages = [{name: path} for name, (path, _) in reference_pages.packages().items()]
    python["Python"] = [python["Python"], *pages]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages."""
    pages: dict[str, str | bytes] = {
        "reference/cli.md": reference_pages.commands(),
        "reference/config.md": reference_pages.settings(),
        "reference/metrics.md": reference_pages.metrics(),
        "changelog.md": (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
        "demo.png": (ROOT / ".github" / "demo.png").read_bytes(),
        **dict(reference_pages.packages().values()),
    }
    for notebook in sorted((ROOT / "docs" / "notebooks").glob("*.ipynb")):
        pages |= notebook_pages.pages(notebook, execute=not _serving)
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))
    return files


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Refuse a page that would fetch something from elsewhere when it is read."""
    fetched = _FETCHED.findall(output) + _LINKED.findall(output)
    if fetched:
        raise PluginError(f"{page.file.src_uri} fetches {', '.join(fetched)} from elsewhere.")
    return output
