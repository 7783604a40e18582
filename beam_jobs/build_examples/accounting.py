"""The account of every row of the CSV once the shards are written: rejects, sheets, manifest."""

import base64
import concurrent.futures
import dataclasses
import hashlib
import posixpath
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from beam_jobs.build_examples import (
    contact_sheet,
    destination,
    label_table,
    planning,
    twin_files,
    write_shard,
)
from dr_tfx.dataset import identities, manifest, record_index, records, splits, tool_files
from dr_tfx.sources import folders, refusals, trees
from dr_tfx.storage import files, tables


@dataclasses.dataclass(frozen=True)
class Written:
    """The contents of all shards.

    Attributes:
      shards: name -> (split, label) of every shard.
      sidecars: the sidecar of every shard, without its `photographs` and `frames`.
      identities: the photographs, in the order of the shards.
      index: where each record is, in the same order.
      digests: of the photographs' bytes, uint64 (photographs, 2); zeros if they were not taken.
    """

    shards: dict[str, tuple[str, int]]
    sidecars: dict[str, write_shard.Sidecar]
    identities: identities.Identities
    index: np.ndarray
    digests: np.ndarray


def finish(
    plan: planning.Plan,
    written: Written,
    near: Sequence[Sequence[str]],
    source: folders.Source,
    output_dir: str,
) -> manifest.Manifest:
    """Account for every row, and write the manifest last.

    Args:
      plan: the plan of a build.
      written: the contents of its shards.
      near: groups of ids of near twins.
      source: the photographs.
      output_dir: the folder of the shards and their sidecars.

    Raises:
      ValueError: too many rows were rejected.
      RuntimeError: a row was neither written nor rejected.
    """
    sidecars = written.sidecars
    rejects = pd.concat([plan.rejects, _late_rejects(sidecars, source)], ignore_index=True)
    report_rejects(rejects, plan, output_dir)
    rows = _written(plan, sidecars, rejects, output_dir)
    flagged, (twins, near_twins) = _flagged(sidecars), _twins(plan, written, near, rows)
    beside = posixpath.join(output_dir, manifest.IDENTITIES_FILE)
    with files.create(beside) as stream:
        known_by = written.identities.write(stream)
    index = record_index.to_bytes(written.index)
    files.write(posixpath.join(output_dir, manifest.INDEX_FILE), index)
    ahead, _ = destination.dated_ahead(plan, source, files.modified(beside))
    patients, shared = planning.count_patients(rows)
    result = manifest.Manifest(
        dataset=plan.spec,
        fingerprint=plan.contract()["fingerprint"],
        libraries=dict(planning.LIBRARIES),
        rows=plan.csv_rows,
        written=len(rows),
        rejected=label_table.count_reasons(rejects),
        ungradable=label_table.count_reasons(flagged[flagged["fate"] == "kept"]),
        spread=sum(sidecar.spread for sidecar in sidecars.values()),
        substituted=sum(sidecar.substituted for sidecar in sidecars.values()),
        counts=planning.count_labels(rows, plan.spec.label_names),
        patients=patients,
        shared_patients=len(shared),
        unknown_patients=planning.count_unknown(rows),
        shared_names=tuple(shared[: manifest.NAMED_PATIENTS]),
        twins=twins,
        near_twins=near_twins,
        identities=known_by,
        index=hashlib.sha256(index).hexdigest(),
        unlabelled=len(plan.unlabelled),
        inputs=plan.inputs | ({destination.DATED_AHEAD: ahead} if ahead else {}),
        shards=_shards(written),
        prepared=manifest.ELSEWHERE if plan.is_prepared else manifest.BY_RECIPE,
    )
    sheet = contact_sheet.of_labels(result, rows, source, folder=output_dir)
    files.write(posixpath.join(output_dir, trees.CONTACT_SHEET_FILE), sheet)
    _list_beside(plan, flagged, source, output_dir)
    for name, text in tool_files.of(result).items():
        files.write_text(posixpath.join(output_dir, name), text)
    files.delete_temporary(output_dir)  # Workers that were killed and replaced leave some.
    files.write_text(posixpath.join(output_dir, manifest.FILE_NAME), result.to_json())
    destination.forget(output_dir)
    return result


def _twins(
    plan: planning.Plan, written: Written, near: Sequence[Sequence[str]], rows: pd.DataFrame
) -> tuple[tuple[dict[str, Any], ...], tuple[dict[str, Any], ...]]:
    """Return twins and near twins as the manifest has them, and warn of them.

    A group of near twins that are all byte-identical is one of twins only.
    """
    twins = plan.twins
    if plan.spec.split.method == "hash":
        ids = written.identities.text("id")
        twins = twin_files.describe(rows, twin_files.group(ids, written.digests))
        twin_files.warn(twins)
    is_one_file = {tuple(twin["ids"]) for twin in twins}
    near_twins = twin_files.describe(rows, [ids for ids in near if tuple(ids) not in is_one_file])
    twin_files.warn_near(near_twins)
    return twins, near_twins


def report_rejects(
    rejects: pd.DataFrame, plan: planning.Plan, output_dir: str, *, write: bool = True
) -> None:
    """Write rejects.csv, and fail if there are too many rejects.

    Raises:
      ValueError: more than `max_reject_rate` of the rows were rejected, or all of them.
    """
    path = posixpath.join(output_dir, destination.REJECTS_FILE)
    ordered = rejects.sort_values(["id", "reason"], kind="stable")
    if write:
        files.write_text(path, tables.csv_text(ordered))
    if too_many := planning.too_many(rejects, plan):
        listed = f" {path} lists all with the reason." if write else ""
        # A part of this build that exists will not fit the input any more once that is mended.
        is_begun = any(
            files.exists(file)
            for file in (
                posixpath.join(output_dir, manifest.FILE_NAME),
                destination.in_progress(output_dir, destination.PLAN_FILE),
            )
        )
        again = "Mend them and pass {overwrite}" if is_begun else "Mend them"
        raise refusals.UnusableInput(
            "{problem}.{listed} " + again + ", or raise the limit and run the same command again",
            problem=too_many,
            listed=listed,
        )


def read_written(shards: dict[str, tuple[str, int]], output_dir: str) -> Written:
    """Return the contents of all shards.

    Args:
      shards: name -> (split, label) of every shard.
      output_dir: the folder of the shards and their sidecars.

    Raises:
      ValueError: a shard is not written.
    """
    said = files.sizes(destination.in_progress(output_dir))
    missing = [
        shard
        for shard in shards
        if posixpath.basename(write_shard.sidecar_path(output_dir, shard)) not in said
    ]
    if missing:
        raise refusals.UnusableInput(
            "{missing} of {count} shards are not written, {first} among them. Was the job not "
            "waited for (--no_wait_until_finish, --template_location)? Once it has ended, the same "
            "command again makes the data set of them",
            missing=len(missing),
            count=len(shards),
            first=missing[0],
        )

    def read(
        shard: str,
    ) -> tuple[write_shard.Sidecar, identities.Identities, np.ndarray, np.ndarray]:
        sidecar = write_shard.read_sidecar(output_dir, shard)
        known, digests = _unpacked(sidecar, split=shards[shard][0])
        index = record_index.of_frames(sidecar.frames)
        sidecar.photographs, sidecar.frames = [], []
        return sidecar, known, index, digests

    with concurrent.futures.ThreadPoolExecutor(destination.READERS) as pool:
        read_all = list(pool.map(read, shards))
    sidecars, known, index, digests = zip(*read_all, strict=True)
    return Written(
        shards,
        dict(zip(shards, sidecars, strict=True)),
        identities.join(known),
        np.concatenate(index),
        np.concatenate(digests),
    )


def _unpacked(
    sidecar: write_shard.Sidecar, *, split: str
) -> tuple[identities.Identities, np.ndarray]:
    """Return the identities of a shard's photographs, and the digests of their bytes."""
    known = identities.collect(
        identities.PhotographIdentity(
            name, patient, split, bytes.fromhex(pixels), base64.b64decode(printed)
        )
        for name, patient, pixels, printed, _ in sidecar.photographs
    )
    none = bytes(records.DIGEST_BYTES).hex()
    digests = bytes.fromhex("".join(of_bytes or none for *_, of_bytes in sidecar.photographs))
    return known, np.frombuffer(digests, np.uint64).reshape(-1, 2)


def _written(
    plan: planning.Plan,
    sidecars: dict[str, write_shard.Sidecar],
    rejects: pd.DataFrame,
    output_dir: str,
) -> pd.DataFrame:
    """Return the rows of the plan that were written.

    Raises:
      RuntimeError: a row was neither written nor rejected.
    """
    late = [row[0] for sidecar in sidecars.values() for row in sidecar.rejects]
    rows = plan.rows[~plan.rows["id"].isin(late)]
    written = sum(sidecar.records for sidecar in sidecars.values())
    if written != len(rows) or written + len(rejects) != plan.csv_rows:
        raise RuntimeError(
            f"{plan.csv_rows} rows, but {written} written and {len(rejects)} rejected: "
            f"were files in {output_dir} changed during the build?"
        )
    return rows


def _late_rejects(sidecars: dict[str, write_shard.Sidecar], source: folders.Source) -> pd.DataFrame:
    """Return the photographs that the workers rejected, with REJECT_COLUMNS."""
    rows = [
        (photograph, source.path(name), reason, detail)
        for sidecar in sidecars.values()
        for photograph, name, reason, detail, _ in sidecar.rejects
    ]
    return pd.DataFrame(rows, columns=list(label_table.REJECT_COLUMNS), dtype=splits.TEXT)


def _flagged(sidecars: dict[str, write_shard.Sidecar]) -> pd.DataFrame:
    """Return what the quality gate flagged: id, name, reason and fate (kept or rejected)."""
    rows = [
        (photograph, name, f"ungradable:{why}", "kept")
        for sidecar in sidecars.values()
        for photograph, name, why in sidecar.ungradable
    ] + [
        (photograph, name, reason, "rejected")
        for sidecar in sidecars.values()
        for photograph, name, reason, _, _ in sidecar.rejects
        if reason.startswith("ungradable:")
    ]
    return pd.DataFrame(rows, columns=["id", "name", "reason", "fate"], dtype=splits.TEXT)


def _shards(written: Written) -> tuple[manifest.Shard, ...]:
    """Return the shards that are files; a shard without any record is none."""
    return tuple(
        manifest.Shard(
            name=shard,
            split=split,
            label=label,
            records=sidecar.records,
            bytes=sidecar.bytes,
            sha256=sidecar.sha256,
        )
        for shard, (split, label) in written.shards.items()
        if (sidecar := written.sidecars[shard]).records
    )


def _list_beside(
    plan: planning.Plan, flagged: pd.DataFrame, source: folders.Source, output_dir: str
) -> None:
    """Draw the photographs that the gate flagged and list those without a row, if there are any."""
    if len(flagged):
        gallery = contact_sheet.of_ungradable(flagged, source)
        files.write(posixpath.join(output_dir, trees.UNGRADABLE_FILE), gallery)
    if len(plan.unlabelled):
        listed = tables.csv_text(plan.unlabelled.to_frame("name"))
        files.write_text(posixpath.join(output_dir, destination.UNLABELLED_FILE), listed)
