"""The Dockerfile as it is written, and its steps without a daemon: in a folder, by this machine."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
_PLACES = ("/opt/dr_tfx", "/source")  # Folders of an image that its steps write.


class Step(NamedTuple):
    """An instruction and what follows it."""

    name: str
    rest: str

    @property
    def words(self) -> list[str]:
        """Return the words of a line of the form ["a", "b"]."""
        return json.loads(self.rest[self.rest.index("[") :])

    @property
    def sources(self) -> list[str]:
        """Return what a COPY takes from the clone."""
        return [] if self.rest.startswith("--from") else self.rest.split()[:-1]


def images() -> dict[str, list[Step]]:
    """Return the steps of each image, by its name."""
    found: dict[str, list[Step]] = {}
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    for line in text.replace("\\\n", " ").splitlines():
        name, _, rest = line.partition(" ")
        if name == "FROM":
            found[rest.split()[-1]] = []
        elif name and name != "ARG":
            found[[*found][-1]].append(Step(name, rest.strip()))
    return found


def build(image: str, folder: Path) -> None:
    """Do the steps of an image below a folder, with the Python that this one was made of."""
    base = Path(sys.base_prefix) / "bin"
    bare = {k: v for k, v in os.environ.items() if not re.match("PYTHON|VIRTUAL_ENV|COVERAGE", k)}
    environment = {**bare, "PATH": f"{base}:/usr/local/bin:/usr/bin:/bin"}
    for step in images()[image]:
        if step.name == "COPY":
            for source in step.sources:
                _copy(source, folder / "source" / step.rest.split()[-1])
        elif step.name == "RUN":
            line = ["sh", "-ec", below(folder, step.rest)]
            subprocess.run(line, cwd=folder / "source", env=environment, check=True)


def below(folder: Path, text: str) -> str:
    """Return a text with the places of an image below a folder."""
    for place in _PLACES:
        text = text.replace(place, f"{folder}{place}")
    return text


def _copy(source: str, target: Path) -> None:
    if (ROOT / source).is_dir():
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / source, target, ignore=ignored)
        return
    # As docker does: a target that ends with a slash, or is a dot, is a folder.
    target = target / Path(source).name if target.name == "source" else target
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / source, target)
