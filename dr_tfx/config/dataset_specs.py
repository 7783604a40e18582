"""The settings of a data set: recipe, split, labels and patients. See `specs`."""

import dataclasses
import re
from typing import Annotated, Literal

from dr_tfx.config.typed import (
    ConfigError,
    Count,
    Fraction,
    FractionOrZero,
    Positive,
    Rule,
    Share,
    require,
)

MOST_PIXELS = 4096  # A side, of a picture as the network sees it.
_MOST_FOLDS = 100
TAGS = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID")  # They may tell the patient.
UNGATED = ("ct", "ct_windows", "ct_neighbours")  # Recipes without a quality gate.


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The way from a photograph to an example. Changing any field invalidates shards and bundles.

    The quality gate finds files that tell a model nothing. `quality_gate` says what becomes of
    them: `reject` refuses them, `count` keeps and flags them, `off` does not look. It finds
    photographs without a gradable retina; the recipes of `UNGATED` have none and take only `off`.
    """

    # A line of recipes.RECIPES. In `ct_neighbours`, the third window is of the slices beside it.
    name: Literal[
        "reference", "fundus", "retina", "disc", "plain", "ct", "ct_windows", "ct_neighbours"
    ] = "fundus"
    # Height and width of an example, in pixels.
    size: Annotated[int, Rule(lambda n: 16 <= n <= MOST_PIXELS, f"16 to {MOST_PIXELS} pixels")] = (
        224
    )
    clip_limit: Positive = 2.0  # CLAHE's contrast limit.
    # CLAHE's tiles a side.
    tiles: Annotated[int, Rule(lambda n: 1 <= n <= 64, "1 to 64")] = 8
    # Of a CT: center and width of each window, in Hounsfield units. Brain, subdural space and bone.
    windows: Annotated[
        tuple[tuple[float, float], ...],
        Rule(
            lambda shown: len(shown) in (1, 3) and all(width > 1 for _, width in shown),
            "one window, or three for the channels, each (center, width above 1)",
        ),
    ] = ((40, 80), (80, 200), (600, 2800))
    encoding: Literal["raw", "png"] = "raw"  # Both are lossless; raw is faster, png smaller.
    # Photographs that are black, blown out or without a retina: keep, keep and flag, or leave out.
    quality_gate: Literal["off", "count", "reject"] = "count"

    def check(self) -> None:
        """Refuse a gate that the recipe does not have."""
        require(
            self.quality_gate == "off" or self.name not in UNGATED,
            f"config.dataset.recipe.quality_gate is {self.quality_gate!r}, but the recipe "
            f"{self.name!r} has no gate that could flag anything; set it to 'off'.",
        )


@dataclasses.dataclass(frozen=True)
class Split:
    """The rule by which photographs are in train, validation or test.

    `patient` keeps all photographs of one patient in one split, stratified. `image` is
    scikit-learn's `train_test_split` over photographs: it leaks, and is here to reproduce published
    numbers. Both keep byte-identical files in one split, and both look at all rows: another row
    moves others.

    `hash` decides by seed and patient alone: all photographs of a patient are in one split, and
    none ever moves when the data set grows or shrinks. It is not stratified (`strata` does not
    matter), the fractions hold within sampling error, over patients, and byte-identical files of
    two patients may be parted.

    `column` is the official split of a data set: that of a column, of the names of one CSV a split,
    or of folders. If it has no validation, that is held out of train as by `patient`.

    `external` makes everything `test`, for photographs that a model is evaluated on and none is
    trained on.

    With `folds`, the methods `patient` and `hash` deal all photographs to so many folds of equal
    size instead, for cross-validation: each run then tests on one (`config.training.fold`), selects
    on the next and trains on the others. `validation` and `test` do not matter.
    """

    # By patient, by image (leaks), by a hash of the patient, by a column, or all of it as a test.
    method: Literal["patient", "image", "hash", "column", "external"] = "patient"
    column: str = ""  # The column of the official split; "": one CSV a split, or folders.
    validation: Fraction = 0.2  # Fraction of all photographs.
    test: FractionOrZero = 0.0  # Fraction of all photographs; 0 for none.
    strata: tuple[int, ...] = ()  # Label -> stratum of the split; empty: the label itself.
    # Parts of equal size for a cross-validation, each tested on in its turn.
    folds: Annotated[
        int, Rule(lambda n: n == 0 or 3 <= n <= _MOST_FOLDS, f"0 for none, or 3 to {_MOST_FOLDS}")
    ] = 0
    seed: int = 42  # Another one deals the photographs otherwise.

    def check(self) -> None:
        """Refuse fractions that leave nothing to train on, and folds beside another split."""
        require(
            self.validation + self.test < 1,
            f"config.dataset.split has validation={self.validation} and test={self.test}; "
            "expected fractions of the whole that leave something to train on.",
        )
        require(
            not self.column or self.method == "column",
            f"config.dataset.split.column is {self.column!r}, but config.dataset.split.method is "
            f"{self.method!r}; set it to 'column', or the column to ''.",
        )
        require(
            not self.folds or self.method in ("patient", "hash"),
            f"config.dataset.split.folds is {self.folds}, but config.dataset.split.method is "
            f"{self.method!r}; folds are dealt by 'patient' or 'hash'.",
        )
        require(
            not self.folds or not self.test,
            f"config.dataset.split.folds is {self.folds}, and config.dataset.split.test is "
            f"{self.test}; set test to 0, as every photograph is tested in its turn.",
        )


@dataclasses.dataclass(frozen=True)
class DatasetSpec:
    """A folder of photographs and a label CSV, and what is made of them."""

    name: str = ""  # What reports call it; "": as the folder of the photographs is called.
    # The file's name; folders and extension may be left out. With commas between them, several
    # columns of the photographs of one patient.
    image_column: str = "image"
    # One column; or several with commas between them, one for each label (0 and 1, of which one is
    # 1), or one for each photograph of a row.
    label_column: str = "level"
    # Labels are 0 .. len - 1.
    label_names: Annotated[tuple[str, ...], Rule(lambda names: len(names) > 1, "two or more")] = (
        "0",
        "1",
    )
    # Texts of labels besides their names, each "text=number" or "text=name of the label".
    label_values: tuple[str, ...] = ()
    # With --labels=names: the first group of this regex, found in the path of a photograph, is the
    # text of its label.
    label_pattern: str = ""
    # The column that names the patient; "": there is none. Of DICOM files, one of `TAGS` does too,
    # where the CSV has no such column.
    patient_column: str = ""
    # How the patients of tags are written: as keyed hashes, or as they are.
    patient_tags: Literal["hashed", "clear"] = "hashed"
    # Without a column: a regex whose first group, found in the id or the path, is the patient. A
    # photograph that has none counts as a patient of its own.
    patient_pattern: str = ""
    # Kinds of masks that examples hold, each a folder of --masks_dir.
    masks: Annotated[
        tuple[str, ...],
        Rule(
            lambda names: (
                len(set(names)) == len(names)
                and all(re.fullmatch("[A-Za-z0-9-]+", name) for name in names)
            ),
            "names of letters and digits, each once",
        ),
    ] = ()
    # What a photograph without a mask of a kind is: free of it (empty), or not looked at (unknown).
    absent_masks: Literal["empty", "unknown"] = "empty"
    recipe: Recipe = dataclasses.field(default_factory=Recipe)
    split: Split = dataclasses.field(default_factory=Split)
    shard_examples: Count = 512  # Most examples in one shard: the unit of work and of resume.
    # The build fails above this fraction of rejected rows.
    max_reject_rate: Share = 0.02

    def check(self) -> None:
        """Refuse strata that do not fit the labels, and patterns that capture nothing."""
        strata, labels = len(self.split.strata), len(self.label_names)
        require(
            strata in (0, labels),
            f"config.dataset.split.strata has {strata} values for {labels} labels; expected one "
            "for each label, or () for the labels themselves.",
        )
        label_values(self)
        for name, what, example in (
            ("patient_pattern", "patient", r"^(\d+)_"),
            ("label_pattern", "label", "^([gn])"),
        ):
            pattern = getattr(self, name)
            where = f"config.dataset.{name} is {pattern!r}"
            try:
                groups = re.compile(pattern).groups
            except (re.error, OverflowError, RecursionError) as error:
                raise ConfigError(
                    f"{where}, which is not a regular expression: {error}."
                ) from error
            require(
                not pattern or groups >= 1,
                f"{where}; expected a (group) for the {what}, such as {example}, or '' for none.",
            )


def label_values(spec: DatasetSpec) -> dict[str, int]:
    """Return text -> label of the setting `label_values`.

    Raises:
      ConfigError: an entry is no "text=label" of a label that there is.
    """
    names = spec.label_names
    values: dict[str, int] = {}
    for entry in spec.label_values:
        text, equals, label = (part.strip() for part in entry.rpartition("="))
        is_number = label.isascii() and label.isdigit() and int(label[:9]) < len(names)
        require(
            bool(equals and text) and (is_number or label in names),
            f"config.dataset.label_values has {entry!r}; expected 'text=label', of a label 0 to "
            f"{len(names) - 1} or one of {', '.join(map(repr, names))}.",
        )
        number = names.index(label) if label in names else int(label)
        require(
            values.setdefault(text, number) == number,
            f"config.dataset.label_values gives {text!r} several labels.",
        )
    return values
