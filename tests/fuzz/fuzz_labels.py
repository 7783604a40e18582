"""Damage small files of labels, and plan a build of them.

    python tests/fuzz/fuzz_labels.py SEED CASES

Each file either gives a plan, in which every row is an example or a reject with its reason, or is
refused in one sentence. The command prints how many were which, and fails at the first file that is
neither, takes much memory, or gives an id that leaves its folder or hides what it is.
"""

import gzip
import io
import logging
import resource
import sys
import tempfile
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import openpyxl

sys.path.insert(0, str(Path(__file__).parents[2]))
from beam_jobs.build_examples import planning
from dr_tfx.config import specs
from tests.helpers.damage import damage
from tests.helpers.places import Named

MEMORY = 300 << 10  # Kilobytes that the damaged files may add.
NAMES = ("a.png", "b.jpg", "p1/v.png", "p2/v.png", "눈.png", "train/1.png", "test/1.png", "x y.png")
SPECS = [
    specs.DatasetSpec(label_names=("no", "yes", "maybe"), max_reject_rate=1.0, **changes)
    for changes in (
        {"split": specs.Split(method="external")},
        {"split": specs.Split(method="column", column="set"), "patient_column": "pid"},
        {"split": specs.Split(method="hash"), "label_values": ("no=0", "yes=1", "0=0", "1=1")},
        {"split": specs.Split(method="hash"), "label_column": "n,y,m"},
        {"split": specs.Split(method="hash"), "image_column": "image,other"},
    )
]
TOKENS = (
    *(b",", b";", b"\t", b'"', b"\n", b"\r", b"\0", b"\\", b"/", b"..", b"../", b"=1+1", b" "),
    *(b"<b>", b"9" * 400, b"\xff\xfe", b"\xef\xbb\xbf", b"\xb0\xa1", b"\x82\xa0", b"image,level\n"),
    *("\u202e눈".encode(), b"-1", b"1.0", b"nan", b"\x1f\x8b", b"PK\3\4", b",,,\n"),
)


def files() -> list[bytes]:
    """Intact files of labels."""
    rows = [
        ("image", "other", "level", "set", "pid", "n", "y", "m"),
        *(
            (name, "", i % 3, ("train", "val", "test")[i % 3], i // 2, *np.eye(3, dtype=int)[i % 3])
            for i, name in enumerate(NAMES)
        ),
    ]
    made = []
    for separator in (",", ";", "\t"):
        text = "\n".join(separator.join(map(str, row)) for row in rows)
        made += [text.encode(encoding) for encoding in ("utf-8", "utf-8-sig", "utf-16", "cp949")]
    made += [
        gzip.compress(made[0]),
        "\n".join(f"{n} {i % 3}" for i, n in enumerate(NAMES)).encode(),
    ]
    book, stream = openpyxl.Workbook(), io.BytesIO()
    for row in rows:
        book.active.append([int(cell) if isinstance(cell, np.integer) else cell for cell in row])
    book.save(stream)
    return [*made, stream.getvalue()]


def insert(data: bytes, rng: np.random.Generator) -> bytes:
    """Put tokens of tables into a file."""
    changed = bytearray(data)
    for _ in range(rng.integers(1, 6)):
        at = int(rng.integers(0, len(changed) + 1))
        changed[at : at + int(rng.integers(0, 4))] = TOKENS[rng.integers(0, len(TOKENS))]
    return bytes(changed)


def check(path: Path, spec: specs.DatasetSpec) -> str:
    """Return what became of a file; fail if that is nothing that may."""
    try:
        made = planning.make_plan(spec, labels=str(path), source=Named(NAMES), find_twins=False)
    except ValueError as error:
        said = str(error)
        assert said and len(said) < 3000 and "Traceback" not in said, said
        return "refused"
    assert made.csv_rows == len(made.rows) + len(made.rejects)
    assert (made.rejects["reason"] != "").all() and made.rows["label"].between(0, 2).all()
    assert made.rows["id"].is_unique and made.rows["name"].isin(NAMES).all()
    assert made.rows["name"].is_unique
    for name in [*made.rows["id"], *made.rejects["id"]]:
        assert not name.startswith("/") and ".." not in name.split("/"), name
    for name in [*made.rows["id"], *made.rejects["id"], *made.rows["patient"]]:
        assert not any(unicodedata.category(c) == "Cc" or c == "\u202e" for c in name), repr(name)
    return "planned+rejects" if len(made.rejects) else "planned"


def main(seed: int, cases: int) -> None:
    """Damage so many files."""
    logging.disable()
    rng, intact, seen = np.random.default_rng(seed), files(), Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "labels.csv"
        before = 0
        for case in range(cases):
            data = intact[case % len(intact)]
            if case >= len(intact) * len(SPECS):
                data = damage(data, intact, rng) if rng.random() < 0.5 else insert(data, rng)
            path.write_bytes(data)
            spec = SPECS[case // len(intact) % len(SPECS)]
            try:
                seen[check(path, spec)] += 1
            except BaseException:
                print(f"case {case} of seed {seed}: {data[:2000]!r}", file=sys.stderr)
                raise
            if case == len(intact) * len(SPECS):
                before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < MEMORY, f"{grown} kB more"
    for outcome, count in sorted(seen.items()):
        print(outcome, count)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
