"""Damage bundles and manifests, as accidents and strangers do, and load them.

    python tests/fuzz/fuzz_bundles.py SEED CASES

Each is loaded and usable, or refused in one sentence. The command prints how many were which, and
fails at the first one that is neither or takes much memory. It ends with the process, should native
code crash.
"""

import json
import logging
import resource
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[2]))
from dr_tfx.dataset import leakage, manifest
from dr_tfx.evaluation import scored
from dr_tfx.models import bundle_file, bundles
from dr_tfx.storage import files
from tests.helpers import bundled, datasets
from tests.helpers.damage import damage

MEMORY = 900 << 10  # Kilobytes that the damaged bundles may add.
_VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 7, 17, 4096, 2**31, 2**63, 10**30, 0.5, -0.25, 1e-300, 1e308),
    *("", "x", "../../x", "/etc/passwd", "<b>", "눈", "(" * 99, "a\x00b", "Lambda", "nan", "1e999"),
    *([], {}, [[]], {"a": 1}, [1] * 40, [10**9], [2**20, 2**20], ["0", "1"], [None], [0.1, 0.1]),
)


def made(folder: Path) -> Path:
    """Return the folder of an intact bundle; its data set is beside it."""
    experiment = datasets.experiment()
    spec = experiment.dataset
    data = datasets.write(folder / "data", spec)
    twin = {"ids": ["n1", "n40"], "labels": [0, 1], "splits": ["train", "validation"]}
    plain = data.to_dict() | {
        "twins": [twin],
        "counts": {
            split: dict(zip(spec.label_names, n, strict=True))
            for split, n in datasets.COUNTS.items()
        },
        "patients": {"train": 17, "validation": 6},
        "rejected": {"unreadable": 1},
        "rows": data.rows + 1,
    }
    data = manifest.from_dict(plain)
    files.write_text(folder / "data" / manifest.FILE_NAME, data.to_json())
    workdir = bundled.make_bundle(folder / "run", experiment, data)
    bundles.save_fitted(workdir, datasets.fitted(0.4))
    return workdir


def mutated(content: Any, rng: np.random.Generator) -> Any:
    """Return JSON in which one value, at any depth, is another, gone, or under another name."""
    if not isinstance(content, dict | list) or not content or rng.random() < 0.12:
        return _VALUES[rng.integers(0, len(_VALUES))]
    if isinstance(content, list):
        at = int(rng.integers(0, len(content)))
        return [*content[:at], mutated(content[at], rng), *content[at + 1 :]]
    key = list(content)[rng.integers(0, len(content))]
    what = rng.random()
    if what < 0.05:
        return {name: value for name, value in content.items() if name != key}
    if what < 0.1:
        return {**content, "../x": content[key]}
    return {**content, key: mutated(content[key], rng)}


def load(run: Path) -> str:
    """What becomes of a bundle. One that is loaded scores, and says what it decides."""
    try:
        bundle = bundles.load(run)
    except (ValueError, FileNotFoundError) as error:
        return refused(error, run)
    use(bundle.manifest)
    scores, views = bundle.kind.scores, len(bundle.experiment.evaluation.views)
    table = pd.DataFrame(bundle.columns(np.full((2, views, 1), 0.3)))
    readings = scores.read(table, bundle.fitted)
    assert len(readings) == 2 and scores.rule(bundle.fitted)
    if bundle.experiment.dataset.recipe.size <= 64:
        size = bundle.experiment.dataset.recipe.size
        assert np.isfinite(bundle.model(np.zeros((1, size, size, 3), np.float32))).all()
    return "loaded"


def load_manifest(data_dir: Path) -> str:
    """What becomes of a manifest. One that is loaded can be described."""
    try:
        use(manifest.load(data_dir))
    except (ValueError, FileNotFoundError) as error:
        return refused(error, data_dir)
    return "loaded"


def use(data: manifest.Manifest) -> None:
    assert data.describe()
    leakage.alarms(leakage.within(data.to_dict()))
    scored.notices(data)
    json.dumps(data.to_dict())


def refused(error: Exception, folder: Path) -> str:
    """One word for a refusal, which is one sentence or two that name a file of the folder."""
    text = str(error)
    assert str(folder) in text and "\n" not in text and len(text) < 1200, text
    return "refused"


def main(seed: int, cases: int) -> dict[str, int]:
    logging.disable()
    rng, counts = np.random.default_rng(seed), Counter()
    with tempfile.TemporaryDirectory() as temporary:
        run = made(Path(temporary))
        data = run.parent / "data"
        files = [run / name for name in bundle_file.FILES] + [data / manifest.FILE_NAME]
        intact = {path: path.read_bytes() for path in files}
        load(run)  # What TensorFlow itself takes does not count.
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for case in range(cases):
            path = files[case % len(files)]
            kind = f"{path.name} {'damaged' if rng.random() < 0.4 else 'mutated'}"
            if kind.endswith("mutated") and path.suffix == ".json":
                data_now = json.dumps(mutated(json.loads(intact[path]), rng)).encode()
            else:
                data_now = damage(intact[path], list(intact.values()), rng)
            path.write_bytes(data_now)
            if kind.endswith("mutated") and path.suffix != ".json":  # A stranger's own digest.
                content = json.loads(intact[run / bundle_file.BUNDLE_FILE])
                content["files"][path.name] = bundle_file.digest(data_now)
                (run / bundle_file.BUNDLE_FILE).write_text(json.dumps(content))
            try:
                found = load_manifest(data) if path.parent == data else load(run)
                counts[f"{kind} {found}"] += 1
            except BaseException:
                print(f"case {case} of {seed}: {kind}: {data_now!r}"[:9000], file=sys.stderr)
                raise
            finally:
                for changed in (path, run / bundle_file.BUNDLE_FILE):
                    changed.write_bytes(intact[changed])
            if case % 50 == 0:
                keras.backend.clear_session()
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            assert grown < MEMORY, f"case {case} of seed {seed}: {grown} kilobytes"
    print(json.dumps(counts, indent=1), "kilobytes", grown)
    return counts


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
