"""The pages of the reference that are made of the code."""

import dataclasses
from collections import Counter

from docs import reference_pages
from dr_tfx import tasks
from dr_tfx.config import specs, typed
from tests.docs.test_pages import settings


def test_every_setting_has_a_row():
    """One of a kind of task has a row for each kind that has it, inherited or its own."""
    text = reference_pages.settings()
    base = typed.to_dict(specs.Experiment(task=specs.Task(), evaluation=specs.Evaluation()))
    of_kinds = Counter(
        f"{group}.{field.name}"
        for kind in tasks.KINDS.values()
        for group, record in (("task", kind.TASK), ("evaluation", kind.EVALUATION))
        for field in dataclasses.fields(record)
        if field.name not in base[group]
    )
    groups = {"task", "dataset", "model", "training", "evaluation"}
    nested = {"dataset.recipe", "dataset.split", "training.augmentation"}
    for name in settings() - groups - nested:
        assert text.count(f"| `{name}` |") == of_kinds.get(name, 1), name


def test_docstrings_become_prose_and_code():
    doc = """Reads *.jpeg files into a `dict[str, int]`.

    drtfx-train --config=C \\
        --workdir=RUN

A <name> and a[0] of _hidden things in label_map."""
    assert reference_pages.prose(doc) == (
        "Reads \\*.jpeg files into a `dict[str, int]`.\n\n"
        "```sh\ndrtfx-train --config=C \\\n    --workdir=RUN\n```\n\n"
        "A &lt;name> and a\\[0\\] of \\_hidden things in label_map.\n"
    )


def test_keys_of_metrics_are_listed():
    text = reference_pages.metrics()
    for key in ("alarms", "calibration", "counts", "scores", "selection", "strata", "sweep"):
        assert f"| `{key}` |" in text or f"`{key}, " in text, key


def test_every_package_has_a_page():
    pages = reference_pages.packages()
    assert "dr_tfx.tasks.binary" in pages and "dr_tfx.sources" in pages
    path, text = pages["dr_tfx.dataset"]
    assert path == "reference/python/dr_tfx.dataset.md"
    assert text.startswith("# dr_tfx.dataset\n")
    assert "::: dr_tfx.dataset.records\n" in text and "__init__" not in text
