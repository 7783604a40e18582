"""Published sets of glaucoma are read with the flags of their guide, on folders of their shape."""

import ast
import dataclasses
import re
import shlex
from pathlib import Path

import pytest

from beam_jobs.build_examples import planning
from dr_tfx import tasks
from dr_tfx.config import specs
from dr_tfx.sources import find_source
from tests.helpers import configs

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "glaucoma.md"
TABLES = {
    "G1020/G1020.csv": "imageID,binaryLabels\nimage_0.jpg,0\nimage_3.jpg,1\n",
    "ORIGA/OrigaList.csv": (
        "Eye,Filename,ExpCDR,Set,Glaucoma\nOD,001.jpg,0.7097,A,0\nOS,002.jpg,0.6953,B,1\n"
    ),
}
SETS = {
    "G1020": (
        {"Images/image_0.jpg": 0, "Images/image_3.jpg": 1},
        ["Images/image_0.json", "Masks/image_0.png", "Masks/image_3.png"],
    ),
    "ORIGA": ({"Images/001.jpg": 0, "Images/002.jpg": 1}, ["Masks/001.png", "Masks/002.png"]),
    "REFUGE": (
        {"Training400/Non-Glaucoma/n0001.jpg": 0, "Training400/Glaucoma/g0001.jpg": 1},
        ["Disc_Cup_Masks/Glaucoma/g0001.bmp", "Disc_Cup_Masks/Non-Glaucoma/n0001.bmp"],
    ),
    "ACRIMA": ({"Im001_ACRIMA.jpg": 0, "Im310_g_ACRIMA.jpg": 1, "Im002_ACRIMA.jpg": 0}, []),
    "RIM-ONE DL": (
        {
            "partitioned_randomly/training_set/normal/r1_Im001.png": 0,
            "partitioned_randomly/training_set/glaucoma/r3_S-1-L.png": 1,
            "partitioned_randomly/test_set/glaucoma/r2_Im318.png": 1,
        },
        [],
    ),
    "RIM-ONE r2": ({"Normal/Im001.jpg": 0, "Glaucoma and suspicious/Im256.jpg": 1}, []),
}
FOLDERS = {"RIM-ONE DL": "RIM-ONE_DL_images"}


def rows() -> dict[str, list[str]]:
    """The cells of each row of the guide's table, by the name of the set."""
    lines = GUIDE.read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: row[1:] for row in cells if len(row) == 3 and "`" in row[1] + row[2]}


def plan_of(folder: Path, flags: str) -> planning.Plan:
    """The plan of a build with these flags, in a folder that holds the set."""
    settings, given = configs.load("glaucoma"), {}
    for word in shlex.split(flags):
        name, _, value = word.removeprefix("--").partition("=")
        if not name.startswith("config."):
            given[name] = value
            continue
        group, key = name.removeprefix("config.").rsplit(".", 1)
        place = settings
        for part in group.split("."):
            place = place[part]
        place[key] = value if isinstance(place[key], str) else ast.literal_eval(value)
    spec = tasks.from_config(settings).dataset
    if spec.split.folds:  # A handful of photographs cannot be dealt to them.
        spec = dataclasses.replace(spec, split=specs.Split(method="external"))
    source = find_source.open_source(str(folder / given["image_dir"]))
    labels = given["labels"]
    path = str(folder / labels) if labels.endswith(".csv") else labels
    return planning.make_plan(spec, labels=path, source=source)


@pytest.mark.parametrize("name", SETS)
def test_a_published_set_is_read_with_the_flags_of_the_guide(tmp_path, name, caplog):
    photographs, others = SETS[name]
    root = tmp_path / FOLDERS.get(name, name)
    for number, path in enumerate([*photographs, *others]):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"x" * (number + 1))
    for path, text in TABLES.items():
        if path.startswith(f"{name}/"):
            (tmp_path / path).write_text(text)
    shown = re.findall(r"`([^`]+)`", rows()[name][0])  # The files that the guide shows are there.
    assert all((tmp_path / path).is_file() for path in shown)
    flags = re.findall(r"`([^`]+)`", rows()[name][1])[0]
    made = plan_of(tmp_path, flags)
    found = {Path(row.name).name: row.label for row in made.rows.itertuples(index=False)}
    assert found == {Path(path).name: label for path, label in photographs.items()}
    assert not len(made.rejects) and "no id matches" not in caplog.text
    if name == "ACRIMA":
        of = dict(zip(made.rows["id"], made.rows["patient"], strict=True))
        assert of["Im001_ACRIMA"] == of["Im002_ACRIMA"] != of["Im310_g_ACRIMA"]
    if name == "RIM-ONE DL":
        more = re.findall(r"`([^`]+)`", rows()["... with its own split"][1])[0]
        parts = plan_of(tmp_path, f"{flags} {more}").rows.set_index("id")["split"]
        assert parts["r2_Im318"] == "test" and "test" not in set(parts.drop("r2_Im318"))
