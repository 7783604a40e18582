"""Measures of heat maps against lesion masks, and sentences on what follows from them.

Workers measure one photograph after the other and leave a table beside the heat maps. The driver
averages them by method, kind of lesion and label.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import pandas as pd

from beam_jobs.build_examples import photograph_names
from beam_jobs.explain import units
from dr_tfx.config import seeds
from dr_tfx.explanation import explainer, localization, perturbation
from dr_tfx.inference import scoring
from dr_tfx.preprocessing import mask_files, quality
from dr_tfx.statistics import intervals, metrics

ANY = "any lesion"
COLUMNS = (
    *("id", "patient", "label", "method", "lesion"),
    *("hit", "hit_chance", "hit_other", "energy", "area", "energy_other"),
    *("insertion", "insertion_random", "deletion", "deletion_random", "outside"),
)
_MIN_PATIENTS = 10
_PAIRS = {  # Gain -> the figure that is better if larger, and the one that it is compared with.
    "hit_gain": ("hit", "hit_chance"),
    "hit_own": ("hit", "hit_other"),
    "energy_gain": ("energy", "area"),
    "energy_own": ("energy", "energy_other"),
    "insertion_gain": ("insertion", "insertion_random"),
    "deletion_gain": ("deletion_random", "deletion"),
}
_MEANS = COLUMNS[6:]
_UNKNOWN = metrics.Estimate(float("nan"), float("nan"), float("nan"))


def check_names(masks: mask_files.MaskFolder, parts: Iterable[units.HeatmapPart]) -> None:
    """Refuse masks that belong to other photographs, before any work.

    Raises:
      ValueError: no mask belongs to any photograph.
    """
    names = [photograph_names.identify(item.name) for part in parts for item in part.items]
    if not any(masks.find(name) for name in names):
        raise ValueError(
            f"{masks.folder} has no mask of any of the {len(names)} photographs in "
            f"{', '.join(masks.kinds)}; for the first, {names[0]}.png or "
            f"{names[0]}_{masks.kinds[0]}.png was expected"
        )


class MaskMeasurer:
    """Measures the maps of several methods. A process needs one."""

    def __init__(
        self,
        masks: mask_files.MaskFolder,
        explainers: Mapping[str, explainer.Explainer],
        inputs: units.ExplainInputs,
    ):
        """Prepare the measures.

        Args:
          masks: the lesions.
          explainers: by the name of their method, all with the same bundle.
          inputs: give the photographs in full.
        """
        self._masks, self._explainers, self._inputs = masks, explainers, inputs
        bundle = next(iter(explainers.values())).bundle
        # The maps show the photograph as it is, so the score that they are compared with does too.
        evaluation = dataclasses.replace(bundle.experiment.evaluation, views=("identity",))
        experiment = dataclasses.replace(bundle.experiment, evaluation=evaluation)
        self._score = scoring.explained_scorer(dataclasses.replace(bundle, experiment=experiment))

    def measure(self, batch: Sequence[units.PreparedItem]) -> Iterator[list[dict[str, Any]]]:
        """Yield each photograph's rows of the table: one a method and kind of lesion that it has.

        The comparison with another photograph's map takes the one half a batch further on.
        """
        paths = [self._paths(prepared) for prepared in batch]
        chosen = [i for i, found in enumerate(paths) if found]
        maps: dict[str, np.ndarray] = {}
        if chosen:
            rgb = np.stack([batch[i].picture.rgb for i in chosen])
            maps = {name: explain(rgb)[0] for name, explain in self._explainers.items()}
        step, number = len(chosen) // 2, 0  # The number is that of the next map.
        for prepared, found in zip(batch, paths, strict=True):
            if not found:
                yield []
                continue
            other = (number + step) % len(chosen)
            own = {name: (m[number], m[other] if step else None) for name, m in maps.items()}
            yield list(self._photograph(prepared, found, own))
            number += 1

    def _paths(self, prepared: units.PreparedItem) -> dict[str, mask_files.MaskFile]:
        return self._masks.find(photograph_names.identify(prepared.item.name))

    def _photograph(
        self,
        prepared: units.PreparedItem,
        paths: Mapping[str, mask_files.MaskFile],
        maps: Mapping[str, tuple[np.ndarray, np.ndarray | None]],
    ) -> Iterator[dict[str, Any]]:
        targets = _targets(self._inputs.whole(prepared), paths)
        if not targets:
            return
        seed = seeds.stable_hash("random maps", prepared.item.id)
        areas, random = perturbation.measure(
            prepared.picture.rgb, [own for own, _ in maps.values()], self._score, seed=seed
        )
        known: dict[str, Any] = {
            "id": prepared.item.id,
            "patient": prepared.item.patient,
            "label": prepared.item.label,
        }
        height, width = next(iter(targets.values())).shape

        def place(heatmap: np.ndarray) -> np.ndarray:
            return prepared.picture.box.to_photograph(heatmap, height=height, width=width)

        for (method, (own, other)), area in zip(maps.items(), areas, strict=True):
            placed = place(own)
            placed_other = None if other is None else place(other)
            for kind, target in targets.items():
                row = known | {"method": method, "lesion": kind} | target.measure(placed)._asdict()
                if placed_other is not None:
                    pointing = target.measure(placed_other)
                    row |= {"hit_other": pointing.hit, "energy_other": pointing.energy}
                if kind == ANY:
                    row |= {"insertion": area.insertion, "insertion_random": random.insertion}
                    row |= {"deletion": area.deletion, "deletion_random": random.deletion}
                    is_outside = localization.is_outside(own, retina(prepared.picture.rgb))
                    row |= {"outside": float(is_outside)}
                yield row


def _targets(
    whole: np.ndarray, paths: Mapping[str, mask_files.MaskFile]
) -> dict[str, localization.LesionTarget]:
    """Return the target of each kind of lesion that is present, and of ANY kind together."""
    masks = mask_files.read(paths, like=(whole.shape[0], whole.shape[1]))
    height, width = next(iter(masks.values())).shape
    lit = retina(whole).astype(np.uint8)
    inside = cv2.resize(lit, (width, height), interpolation=cv2.INTER_NEAREST) > 0
    every = {ANY: np.logical_or.reduce(list(masks.values())), **masks}
    return {
        kind: localization.LesionTarget(mask, inside)
        for kind, mask in every.items()
        if (mask & inside).any()
    }


def retina(rgb: np.ndarray) -> np.ndarray:
    """Return where a picture, uint8 RGB (height, width, 3), is lit: bool (height, width)."""
    return quality.lit_field(np.ascontiguousarray(rgb[..., ::-1]))[1]


def summarise(table: pd.DataFrame, label_names: Sequence[str]) -> dict[str, Any]:
    """Average the table of photographs, and say what follows from it.

    Args:
      table: the rows of `MaskMeasurer.measure` for all photographs.
      label_names: the names of labels 0, 1, ...

    Returns:
      JSON-ready: `settings`; `verdicts`, each with `method`, `alarm` and `text`; and `rows`, each
      with `method`, `by` (all, lesion or label), `name`, `photographs`, and figures with the ends
      of their 95 % interval. `<x>_gain` is the mean difference from chance or random maps,
      `<x>_own` from another photograph's maps; above 0 the map is better.
    """
    rows, verdicts = [], []
    for method, of_method in table.groupby("method", sort=False):
        together = of_method[of_method["lesion"] == ANY]
        groups = [("all", ANY, together)]
        by_kind = of_method[of_method["lesion"] != ANY].groupby("lesion", sort=True)
        groups += [("lesion", str(kind), part) for kind, part in by_kind]
        groups += [
            ("label", name, part)
            for label, name in enumerate(label_names)
            if len(part := together[together["label"] == label])
        ]
        figures = [_figures(part) for _, _, part in groups]
        told = _verdicts(figures[0], together)
        verdicts += [{"method": str(method), "alarm": alarm, "text": text} for alarm, text in told]
        rows += [
            {"method": method, "by": by, "name": name, "photographs": len(part)}
            | {key: estimate.to_dict() for key, estimate in found.items()}
            for (by, name, part), found in zip(groups, figures, strict=True)
        ]
    # Rows of the same name stand together, one a method.
    order = list(dict.fromkeys((row["by"], row["name"]) for row in rows))
    rows.sort(key=lambda row: order.index((row["by"], row["name"])))
    settings = {
        "tolerance": localization.TOLERANCE,
        "steps": perturbation.STEPS,
        "random_maps": perturbation.RANDOM_MAPS,
    }
    return {"settings": settings, "verdicts": verdicts, "rows": rows}


def flat(summary: Mapping[str, Any]) -> pd.DataFrame:
    """Return the rows of a summary as a table: a column for each figure and interval's end."""
    table = pd.json_normalize(summary["rows"], sep="_")
    return table.rename(columns=lambda column: column.removesuffix("_value"))


def _figures(part: pd.DataFrame) -> dict[str, metrics.Estimate]:
    """Return name -> mean over photographs, with its interval over patients."""
    values = {key: part[key] for key in _MEANS}
    # Rounded, so that what remains of a subtraction of equal numbers is no gain.
    values |= {k: (part[better] - part[than]).round(12) for k, (better, than) in _PAIRS.items()}
    bootstrap = intervals.PatientBootstrap(part["patient"])
    (hit,) = bootstrap.proportions(part["hit"] > 0, np.ones((len(part), 1), bool))
    found = {"hit": hit}
    for key, column in values.items():
        known = column.notna()
        of_known = bootstrap
        if not known.all():  # A single photograph has no other map to be compared with.
            of_known = intervals.PatientBootstrap(part["patient"][known])
        found[key] = of_known.mean(column[known]) if known.any() else _UNKNOWN
    return found


def _verdicts(
    found: Mapping[str, metrics.Estimate], photographs: pd.DataFrame
) -> list[tuple[bool, str]]:
    """Return sentences on one method, and whether each is bad news.

    Args:
      found: the figures of the method.
      photographs: its rows of the table, for ANY kind of lesion.
    """
    patients = photographs["patient"].nunique()
    # If no patient has two photographs, patients are probably not known.
    known = patients < photographs["id"].nunique()
    who = f"{patients} {'patients' if known else 'photographs'}"
    if patients < _MIN_PATIENTS:
        text = f"{who} with lesions are too few to tell whether the maps show them."
        return [(True, text)]
    hit, energy = found["hit"], found["energy"]
    is_hit, is_energy = found["hit_gain"].low > 0, found["energy_gain"].low > 0
    told = [
        (
            not is_hit,
            f"The maps {'point' if is_hit else 'do not point'} at lesions: the highest place is on "
            f"one or beside it in {_percent(hit)}, {_share(found['hit_chance'])} by chance"
            f"{_others(found['hit_other'])}.",
        ),
        (
            not is_energy,
            f"The share of the maps on lesions, {_percent(energy)}, is "
            f"{'above' if is_energy else 'not above'} the lesions' share of the lit field, "
            f"{_share(found['area'])}{_others(found['energy_other'])}.",
        ),
    ]
    own = {"the highest place": found["hit_own"].low, "the share": found["energy_own"].low}
    if alike := [name for name, low in own.items() if not low > 0]:
        text = (
            f"By {' and by '.join(alike)}, another photograph's map does as well, as far as "
            f"{who} tell: the maps may show where lesions usually are."
        )
        told.append((len(alike) == len(own), text))
    for key, text in (
        ("insertion_gain", "bringing back what the maps mark raises the score"),
        ("deletion_gain", "blurring what the maps mark lowers the score"),
    ):
        is_better = found[key].low > 0
        than = "more than" if is_better else "no more than"
        told.append((not is_better, f"{text.capitalize()} {than} doing so in random places."))
    if outside := int(photographs["outside"].sum()):
        told.append((True, _outside(outside, len(photographs))))
    return told


def _outside(outside: int, photographs: int) -> str:
    return (
        f"In {outside:,} of {photographs:,} maps the highest place of all is outside of the "
        "lit field, on the dark surround; all other figures look inside alone."
    )


def _others(e: metrics.Estimate) -> str:
    """Return the figure of another photograph's map, as the end of a sentence."""
    return "" if np.isnan(e.value) else f"; for another photograph's map it is {_share(e)}"


def _share(e: metrics.Estimate) -> str:
    return f"{100 * e.value:.1f} %"


def _percent(e: metrics.Estimate) -> str:
    return f"{100 * e.value:.1f} % ({100 * e.low:.1f}–{100 * e.high:.1f})"
