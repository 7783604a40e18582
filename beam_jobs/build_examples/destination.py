"""The folder of a build: its check, its claim, and the shards in it that are still to be built.

`_progress/` holds the job's state: `plan.json` says what is being built, `rows.jsonl` lists the
rows of every shard, and each finished shard has a sidecar, so that the same command again goes on
with the others. `dataset.json` is written last: a folder without it is not a data set.
"""

import concurrent.futures
import fnmatch
import hashlib
import itertools
import json
import logging
import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from beam_jobs.build_examples import label_table, planning, write_shard
from dr_tfx.config import typed
from dr_tfx.dataset import manifest, splits, tool_files
from dr_tfx.preprocessing import decoding
from dr_tfx.sources import folders, refusals, trees
from dr_tfx.storage import claims, files, json_files

REJECTS_FILE = "rejects.csv"
UNLABELLED_FILE = "unlabelled.csv"
PLAN_FILE = "plan.json"  # It lies in the folder of the job's state, and so does the next.
NEAR_TWINS_FILE = "near_twins.json"
DATED_AHEAD = "dated_ahead"  # Among the inputs: a digest of the photographs from the future.
READERS = 16  # Threads that read the workers' files; they mostly wait.

_LOG = logging.getLogger(__name__)
_BESIDE = (  # Names, or patterns of them.
    REJECTS_FILE,
    UNLABELLED_FILE,
    manifest.IDENTITIES_FILE,
    manifest.INDEX_FILE,
    trees.CONTACT_SHEET_FILE,
    trees.UNGRADABLE_FILE,
    tool_files.INFO_FILE,
    tool_files.FEATURES_FILE,
    tool_files.CROISSANT_FILE,
    tool_files.LABELS_FILES,
)
_INPUTS = {
    "inputs.labels": "the label CSV's rows are not the same",
    "inputs.masks": "the masks (names or sizes) are not the same",
    "inputs.photographs": "the photographs (names or sizes) are not the same",
    "inputs.contents": "the contents of the photographs are not the same",
    "inputs.neighbours": "the slices before and after the photographs are not the same",
}
_OF_UNFINISHED = re.compile(
    rf".*(?:{re.escape(write_shard.LIVE_SUFFIX)}|{re.escape(write_shard.NO_SPACE_SUFFIX)})"
)
_PART = rf"(?:{'|'.join(splits.SPLITS)}|fold-\d+)"
_SHARD = re.compile(rf"{_PART}-\d+\.tfrecord-\d{{5,}}-of-\d{{5,}}")


def check_place(output_dir: str) -> None:
    """Refuse a folder of a disk that cannot be made or written, before any work.

    Raises:
      ValueError: the path is a file or lies in one, or the folder may not be written.
    """
    if files.is_remote(output_dir) or files.exists(f"{output_dir}/{manifest.FILE_NAME}"):
        return
    there = next(path for path in (Path(output_dir), *Path(output_dir).parents) if path.exists())
    why = (
        f"{there} is a file"
        if not there.is_dir()
        else f"{there} may not be written"
        if not os.access(there, os.W_OK | os.X_OK)
        else ""
    )
    if why:
        raise refusals.UnusableInput(
            "{output_dir}={place} cannot be used: {why}. Expected a folder, which is made if need "
            "be; choose another",
            place=output_dir,
            why=why,
        )


def check_ours(output_dir: str) -> None:
    """Refuse a folder in which a build would replace somebody else's files.

    Raises:
      ValueError: it holds such files, and neither a data set nor an unfinished build.
    """
    found = claims.foreign(
        output_dir,
        marks={manifest.FILE_NAME: "fingerprint", f"{write_shard.PROGRESS}/{PLAN_FILE}": "inputs"},
        results=(manifest.FILE_NAME, *_BESIDE, "*.tfrecord-*-of-*"),
    )
    # A build that fails for its rejects lists them, and claims nothing.
    rejects, header = posixpath.join(output_dir, REJECTS_FILE), label_table.REJECTS_HEADER
    if found == [REJECTS_FILE] and files.read(rejects, length=len(header)) == header:
        return
    if found:
        raise refusals.UnusableInput(
            "{place} holds {found}, which no build made and this one would replace. Choose another "
            "{output_dir}",
            place=output_dir,
            found=claims.described(found),
        )


def check_apart(output_dir: str, plan: planning.Plan, source: folders.Source) -> None:
    """Refuse to write among the photographs.

    Raises:
      ValueError: one of them lies in the output folder itself.
    """
    folder, inside = f"{output_dir}/", source.path("")
    in_folder = f"{re.escape(folder.removeprefix(inside))}[^/]+"
    if folder.startswith(inside) and plan.rows["name"].str.fullmatch(in_folder).any():
        raise refusals.UnusableInput(
            "{output_dir}={place} is the folder of the photographs; choose another, so that what "
            "is built is not mixed with them",
            place=output_dir,
        )


def finished(
    output_dir: str, plan: planning.Plan, source: folders.Source
) -> manifest.Manifest | None:
    """Return the manifest of the data set if it is finished, else None.

    Raises:
      ValueError: the folder holds another build, finished or not, or a damaged one.
      FileNotFoundError: a finished data set lacks a shard.
    """
    last = posixpath.join(output_dir, manifest.FILE_NAME)
    for path in (last, in_progress(output_dir, PLAN_FILE)):
        if not files.exists(path):
            continue
        earlier = _earlier(path)
        near = [twin["ids"] for twin in earlier.get("near_twins", ())]
        now = plan.reunited(near).contract()
        if earlier["fingerprint"] != now["fingerprint"]:
            raise refusals.UnusableInput(
                "{place} was built otherwise: {differences}. Choose another {output_dir}, or pass "
                "{overwrite} to delete what is there and build anew",
                place=output_dir,
                differences=_differences(earlier, now),
            )
    if not files.exists(last):
        return None
    try:
        made = manifest.parse(
            files.read(last).decode(), sizes=files.sizes(output_dir), where=output_dir
        )
    except FileNotFoundError as error:
        raise refusals.MissingInput("{error} Pass {overwrite}", error=error) from error
    except ValueError as error:
        raise refusals.UnusableInput("{error} Pass {overwrite}", error=error) from error
    _check_unchanged(output_dir, plan, source, made)
    return made


def _earlier(path: str) -> dict[str, Any]:
    """Return what dataset.json, or the plan of an unfinished build, says.

    Raises:
      ValueError: the file is damaged.
    """
    try:
        found = json_files.parse(files.read(path), where=path)
    except ValueError as error:
        raise refusals.UnusableInput("{error} Pass {overwrite}", error=error) from error
    near = found.get("near_twins", [])
    try:
        is_ours = "fingerprint" in found and all(isinstance(i, str) for t in near for i in t["ids"])
    except (TypeError, LookupError):
        is_ours = False
    if not is_ours:
        raise refusals.UnusableInput(
            "{place} is damaged or another program's: expected `fingerprint` and `near_twins` of a "
            "data set. Choose another {output_dir}, or pass {overwrite}",
            place=path,
        )
    return found


def claim(
    output_dir: str, plan: planning.Plan, reunited: planning.Plan, source: folders.Source
) -> tuple[list[write_shard.ShardTask], dict[str, tuple[str, int]]]:
    """Note what is being built, and delete what does not belong to it.

    Args:
      output_dir: the folder of the build.
      plan: what is being built.
      reunited: the same with the near twins that are known.
      source: the photographs.

    Returns:
      The shards that are still to be built, and (split, label) of every shard by its name.
    """
    folder = in_progress(output_dir)
    if not files.exists(in_progress(output_dir, PLAN_FILE)):
        forget(output_dir)
    files.delete_temporary(output_dir)
    files.delete_temporary(folder)
    files.delete_all(folder, _OF_UNFINISHED)
    text = json.dumps(plan.contract(), indent=2, sort_keys=True)
    files.write_text(in_progress(output_dir, PLAN_FILE), text)
    tasks, shards, offset = [], {}, 0
    begun = {write_shard.shard_of(name) for name in files.sizes(folder)}
    made_of: dict[str, str] = {}  # The digest of the rows of every shard.
    times: dict[str, list[float]] = {}  # What `Sidecar.seen` has if no photograph was changed.
    with files.create(in_progress(output_dir, write_shard.ROWS_FILE)) as stream:
        for name, rows in reunited.shards():
            examples = list(_rows(rows))
            lines = "".join(row.line() for row in examples).encode()
            stream.write(lines)
            tasks.append(write_shard.ShardTask(name, offset, len(lines)))
            made_of[name] = write_shard.content_digest(lines)
            shards[name] = (str(rows["split"].iloc[0]), int(rows["label"].iloc[0]))
            if name in begun:
                times[name] = [source.modified(file) for row in examples for file in row.files]
            offset += len(lines)
    done = _done(output_dir, source, made_of, times)
    todo = [task for task in tasks if task.shard not in done]
    if done:
        kept = len(tasks) - len(todo)
        _LOG.info("resuming: %d of %d shards were finished before", kept, len(tasks))
    return todo, shards


def near_twins(output_dir: str) -> list[list[str]]:
    """Return the near twins that an earlier run of an unfinished build has found."""
    path = in_progress(output_dir, NEAR_TWINS_FILE)
    is_ours = files.exists(in_progress(output_dir, PLAN_FILE)) and files.exists(path)
    return json.loads(files.read(path)) if is_ours else []


def note_near_twins(output_dir: str, near: list[list[str]]) -> None:
    """Write down the near twins for whoever goes on with an interrupted build."""
    files.write_text(in_progress(output_dir, NEAR_TWINS_FILE), json.dumps(near))


def delete(output_dir: str) -> None:
    """Delete what builds made, and nothing else. The manifest goes first, the claim last."""
    made, claimed = (
        posixpath.join(output_dir, manifest.FILE_NAME),
        in_progress(output_dir, PLAN_FILE),
    )
    if files.exists(made) and not files.exists(claimed):
        files.write(claimed, files.read(made))  # Without it, what a kill leaves would be nobody's.
    files.delete_all(output_dir, re.compile(re.escape(manifest.FILE_NAME)))
    files.delete_all(output_dir, _SHARD)
    for name in _BESIDE:
        files.delete_all(output_dir, re.compile(fnmatch.translate(name)))
    files.delete_temporary(output_dir)
    forget(output_dir)


def forget(output_dir: str) -> None:
    """Delete the job's state, the claim last: no sidecar may be taken for another build's."""
    files.delete_all(in_progress(output_dir), re.compile(rf"(?!{re.escape(PLAN_FILE)}$).*"))
    files.delete_folder(in_progress(output_dir))


def in_progress(output_dir: str, name: str = "") -> str:
    """Return the path of a file of the job's state, or of its folder."""
    return posixpath.join(output_dir, write_shard.PROGRESS, name).rstrip("/")


def dated_ahead(plan: planning.Plan, source: folders.Source, since: float) -> tuple[str, str]:
    """Return which photographs are dated after some time: a digest of all, and the first's name.

    A camera's clock may be wrong, so that such a date alone tells no change. Both are "" if there
    are none, or if the time is not known, which is 0.
    """
    ahead = [
        (name, modified)
        for chunk in splits.chunks(plan.files)
        for name in (chunk if since else ())
        if (modified := source.modified(name)) > since
    ]
    if not ahead:
        return "", ""
    return hashlib.sha256(json.dumps(sorted(ahead)).encode()).hexdigest(), ahead[0][0]


def _check_unchanged(
    output_dir: str, plan: planning.Plan, source: folders.Source, made: manifest.Manifest
) -> None:
    """Refuse a data set if a photograph was changed since without changing its size.

    Raises:
      ValueError: a photograph is newer than the manifest, and was not when that was written.
    """
    built = files.modified(posixpath.join(output_dir, manifest.FILE_NAME))
    digest, first = dated_ahead(plan, source, built)
    if digest and digest != made.inputs.get(DATED_AHEAD):
        raise refusals.UnusableInput(
            "{photograph} was changed after {place} was built. Choose another {output_dir}, or "
            "pass {overwrite} to build anew",
            photograph=source.path(first),
            place=output_dir,
        )


def _differences(earlier: dict[str, Any], now: dict[str, Any]) -> str:
    before, after = typed.flat(earlier), typed.flat(now)
    keys = [key for key in after if key != "fingerprint" and before.get(key) != after[key]]
    named = [
        _INPUTS.get(key, f"{key} was {before.get(key)!r} and is {after[key]!r}") for key in keys
    ]
    return "; ".join(named) or ("the split is not the same: another version of scikit-learn?")


def _done(
    output_dir: str,
    source: folders.Source,
    made_of: dict[str, str],
    times: dict[str, list[float]],
) -> set[str]:
    """Return the shards that are finished, of these rows, and of photographs of these times.

    The sidecars of the others are deleted, and first their files, if they are no shards any more.
    """
    written, said = files.sizes(output_dir), files.sizes(in_progress(output_dir))
    shards = [shard for name in said if (shard := write_shard.shard_of(name))]

    def is_done(shard: str) -> bool:
        sidecar = write_shard.read_sidecar(output_dir, shard)
        if (
            sidecar.rows != made_of.get(shard)
            or sidecar.seen != times[shard]
            or written.get(shard, 0) != sidecar.bytes
            or len(sidecar.frames) != sidecar.records
        ):
            return False
        # A photograph that was rejected may have been mended since.
        return all(_digest(source, name) == digest for _, name, _, _, digest in sidecar.rejects)

    with concurrent.futures.ThreadPoolExecutor(READERS) as pool:
        is_whole = dict(zip(shards, pool.map(is_done, shards), strict=True))
    damaged = [shard for shard in shards if not is_whole[shard]]
    files.delete(*(posixpath.join(output_dir, shard) for shard in set(damaged) - made_of.keys()))
    files.delete(*(write_shard.sidecar_path(output_dir, shard) for shard in damaged))
    return set(shards) - set(damaged)


def _digest(source: folders.Source, name: str) -> str:
    try:
        with source.reading(name) as data:
            return write_shard.content_digest(data)
    except decoding.RejectedImage:
        return ""


def _rows(rows: pd.DataFrame) -> Iterator[write_shard.PlannedExample]:
    columns = rows[[field for field in write_shard.PlannedExample._fields if field in rows]]
    return itertools.starmap(write_shard.PlannedExample, columns.itertuples(index=False, name=None))
