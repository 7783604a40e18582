"""Draw synthetic fundus photographs, named like those of Kaggle's EyePACS, or head CT.

The demo and the tests use them, so that no patient's data is needed. The command

  drtfx-synthesize --output_dir=RAW --num_patients=100

draws for each patient a left and a right eye (`10_left.jpeg`, `10_right.jpeg`), their grades on
the ICDR scale from 0 (none) to 4 (proliferative) in `labels.csv`, and the pixels of every lesion in
`masks/{MA,HE,EX,SE,NV}/`: microaneurysms, haemorrhages, hard exudates, soft exudates, new vessels.
Lesions are larger than life, so that a small network can learn to see them.

With --condition=glaucoma the label is whether the patient has glaucoma, `labels.csv` also has the
cup-to-disc ratio that tells it, and masks are those of the optic disc (`OD`) and its cup (`OC`).

With --condition=hemorrhage it draws head CT in Hounsfield units as DICOM series, a folder a patient
(`P0010/P0010_00.dcm`), half of the patients with bleeds of one or two kinds. `labels.csv` has a row
a slice with `any` and the five kinds, and masks are those of bleeds. The extra `dicom` is needed.

Most eyes are healthy, as in EyePACS. For more of the rare grades, give the five probabilities:

  drtfx-synthesize --output_dir=RAW --num_patients=500 --grade_probabilities=.4,.2,.2,.1,.1

The same flags make the same photographs. The last line printed is the folder made.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

from dr_tfx.cli import console
from dr_tfx.machine import resources
from dr_tfx.synthetic import data_set

_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", None, "New or empty folder for images, masks/ and labels.csv.", required=True
)
_NUM_PATIENTS = flags.DEFINE_integer(
    "num_patients",
    None,
    "Number of patients; each has two photographs, or eight slices.",
    required=True,
)
_CONDITION = flags.DEFINE_enum(
    "condition", "retinopathy", data_set.CONDITIONS, "The illness that some of the patients have."
)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the drawing; another one makes other patients.")
_GRADE_PROBABILITIES = flags.DEFINE_list(
    "grade_probabilities",
    [str(p) for p in data_set.EYEPACS_PROBABILITIES],
    "Probabilities of the grades 0 to 4 of retinopathy, comma-separated, with the sum 1.",
)
_PROCESSES = flags.DEFINE_integer(
    "processes",
    resources.cores(),
    "Number of processes that draw; the photographs do not depend on it.",
)


def main(argv: Sequence[str]) -> None:
    """Draw the data set that the flags describe, and print its folder."""
    if len(argv) > 1:
        raise app.UsageError(f"Got {argv[1:]}, expected flags only, such as --num_patients=100.")
    try:
        output_dir = data_set.synthesize(
            Path(_OUTPUT_DIR.value),
            num_patients=_NUM_PATIENTS.value,
            condition=_CONDITION.value,
            seed=_SEED.value,
            grade_probabilities=[float(p) for p in _GRADE_PROBABILITIES.value],
            processes=_PROCESSES.value,
        )
    except ValueError as error:
        raise app.UsageError(str(error)) from error
    print(output_dir)


def run() -> None:
    """Run the console script."""
    console.run(main, module=__name__, doc=__doc__)


if __name__ == "__main__":
    run()
