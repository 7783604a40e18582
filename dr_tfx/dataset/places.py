"""The local folder of a data set, wherever the data set is.

A data set on a disk is its own folder. One in an object store gets a mirror (`mirrors`) in a cache,
in a folder that is named after the address and the content of dataset.json, so that another data
set never meets the records of an earlier one.
"""

import concurrent.futures
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
from absl import logging

from dr_tfx.dataset import manifest, mirror_files, mirrors, record_index
from dr_tfx.storage import files, store_errors, store_reads

_DIGITS = 32
_TRIES = 6  # Of the manifest, until it comes twice alike.
_UNFINISHED, _OLD = ".tmp", 86_400.0  # A mirror that is being made; seconds until it never will be.
_SHARE = 0.5  # Of the free space of the disk, where nobody says how large the cache may be.


def folder(
    place: str | Path, *, cache_dir: str | Path | None = None, cache_gb: float | None = None
) -> Path:
    """Return the local folder of a data set; of one in an object store that of its mirror.

    Args:
      place: a folder, or an address such as `gs://bucket/data`, whatever fsspec can open.
      cache_dir: where mirrors are kept from run to run; None: ~/.cache/dr_tfx.
      cache_gb: how many GB of 1e9 bytes the records of all mirrors there may take; None: half of
        what is free on the disk.

    Raises:
      FileNotFoundError: there is no data set at the address (its build did not finish), or it lacks
        a shard.
      ValueError: the manifest is damaged, a shard has another size than it says, the data set is of
        an earlier version, or the cache's disk has no files with holes.
      StoreError: the store cannot be read.
    """
    if not files.is_remote(os.fspath(place)):
        return Path(place)
    address = os.fspath(place).rstrip("/")
    cache = Path(cache_dir or _default()).expanduser().absolute()
    cache.mkdir(parents=True, exist_ok=True)
    _check_holes(cache)
    content, data, sizes = _manifest(address)
    digest = hashlib.sha256(f"{address}\n".encode() + content).hexdigest()[:_DIGITS]
    mirror = cache / digest
    needed = sum(shard.bytes for shard in data.shards)
    limit = _limit(cache, mirror, needed, cache_gb)
    if not (mirror / mirror_files.MARK).is_file():
        _make(mirror, content, data, sizes, address=address)
    os.utime(mirror / mirror_files.MARK)
    opened = mirrors.of(mirror)
    assert opened is not None  # It has its mark.
    opened.limit(limit)
    told = (address, mirror, limit / 1e9, needed / 1e9)
    logging.info("%s is read through the cache %s: up to %.3g GB of its %.3g GB", *told)
    how = "few requests" if opened.group > mirrors.GROUP else "many requests at once"
    what = "%s answers %s: examples come by range, %.3g MB of a place of a shard together"
    logging.info(what, address, how, opened.group / 1e6)
    return mirror


def _default() -> Path:
    """Return the folder of the cache where nobody names one."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "dr_tfx"


def _manifest(address: str) -> tuple[bytes, manifest.Manifest, dict[str, int]]:
    """Return the manifest at an address as bytes and parsed, and the sizes of the files there."""
    sizes = files.sizes(address)
    if manifest.FILE_NAME not in sizes:
        raise FileNotFoundError(
            f"{address}/{manifest.FILE_NAME} does not exist: {address} is not a data set, or its "
            "build did not finish. Check the address that was given as --data_dir, or run "
            "drtfx-build-examples (the same command again resumes it)."
            f"{store_errors.unseen(address)}"
        )
    content = _agreed(store_reads.StoreReader(address), sizes[manifest.FILE_NAME])
    data = manifest.parse(content, sizes=sizes, where=address)
    if not data.index:
        raise ValueError(
            f"{address} was built by an earlier version of dr_tfx, without {manifest.INDEX_FILE}, "
            "by which single records are found. Copy it to a disk and give that folder, or build "
            "it again."
        )
    return content, data, sizes


def _agreed(reader: store_reads.StoreReader, size: int) -> bytes:
    """Return the manifest, of which nobody knows a digest, as it came twice, one after the other.

    Raises:
      StoreError: it cannot be had, or comes otherwise each time.
    """
    content = b""
    for _ in range(_TRIES):
        before, content = content, reader.read(manifest.FILE_NAME, 0, size)
        if content == before:
            return content
    raise store_reads.StoreError(
        f"{reader.address}/{manifest.FILE_NAME} came with other bytes each of {_TRIES} times: it "
        "is being replaced, or the store damages what it sends. The same command again tries anew."
    )


def _make(
    mirror: Path,
    content: bytes,
    data: manifest.Manifest,
    sizes: dict[str, int],
    *,
    address: str,
) -> None:
    """Make an empty mirror, whole or not at all."""
    unfinished = Path(tempfile.mkdtemp(dir=mirror.parent, suffix=_UNFINISHED))
    try:
        for name, size in [(shard.name, shard.bytes) for shard in data.shards] + [
            (manifest.IDENTITIES_FILE, sizes.get(manifest.IDENTITIES_FILE, 0))
        ]:
            with (unfinished / name).open("wb") as stream:
                stream.truncate(size)
        reader = store_reads.StoreReader(address)
        index = mirrors.read_file(
            reader, manifest.INDEX_FILE, sizes[manifest.INDEX_FILE], data.index
        )
        rows = record_index.parse(index, data, where=f"{address}/{manifest.INDEX_FILE}")
        (unfinished / manifest.INDEX_FILE).write_bytes(index)
        state = np.zeros(mirror_files.HEADER.itemsize + len(rows), np.uint8)
        (unfinished / mirror_files.STATE).write_bytes(state.tobytes())
        (unfinished / manifest.FILE_NAME).write_bytes(content)
        group = _group(reader, data)
        mark = json.dumps({"address": address, "group": group}) + "\n"
        (unfinished / mirror_files.MARK).write_text(mark)
        with contextlib.suppress(OSError):  # Another process has made it meanwhile.
            unfinished.rename(mirror)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _group(reader: store_reads.StoreReader, data: manifest.Manifest) -> int:
    """Return how many bytes of one place of a shard are to come together; 0: as few as usual.

    A store is asked for single bytes of places all over the shards at once: first for its client to
    connect, and then for others, against the clock. One that answers few in a second, as a disk
    does that has to seek, is given larger requests.
    """
    ends = np.cumsum([shard.bytes for shard in data.shards])

    def ask(place: int) -> None:
        shard = data.shards[int(np.searchsorted(ends, place, side="right"))]
        start = place % shard.bytes
        reader.read(shard.name, start, start + 1)

    spots = np.linspace(0, ends[-1] - 1, 2 * mirrors.REQUESTS).astype(int).tolist()
    with concurrent.futures.ThreadPoolExecutor(mirrors.REQUESTS) as pool:
        for some in (spots[::2], spots[1::2]):
            began = time.perf_counter()
            list(pool.map(ask, some))
    requests = mirrors.REQUESTS / (time.perf_counter() - began)
    if requests >= mirrors.MANY:
        return 0
    largest = max(data.shards, key=lambda shard: shard.bytes)
    size, began = min(largest.bytes, mirrors.MOST), time.perf_counter()
    reader.read(largest.name, 0, size)
    bandwidth = size / max(1e-6, time.perf_counter() - began - 1 / requests)
    return mirrors.group(requests, bandwidth)


def _limit(cache: Path, mirror: Path, needed: int, cache_gb: float | None) -> int:
    """Return how many bytes a mirror may take.

    Mirrors of other data sets are removed, the one that was opened first of all first, until the
    whole data set fits, or the others are in use.
    """
    others = {path: _taken(path) for path in _mirrors(cache) if path != mirror}
    there = _taken(mirror) if mirror.is_dir() else 0
    free = shutil.disk_usage(cache).free + there + sum(others.values())
    limit = int(cache_gb * 1e9) if cache_gb else int(free * _SHARE)
    for path in sorted(others, key=lambda path: (path / mirror_files.MARK).stat().st_mtime):
        if sum(others.values()) + needed <= limit:
            break
        if _remove(path):
            del others[path]
    return max(0, limit - sum(others.values()))


def _mirrors(cache: Path) -> list[Path]:
    """Return the mirrors in a cache; what was left of unfinished ones is removed."""
    found = []
    for path in cache.iterdir():
        if path.name.endswith(_UNFINISHED) and time.time() - path.stat().st_mtime > _OLD:
            shutil.rmtree(path, ignore_errors=True)
        elif len(path.name) == _DIGITS and (path / mirror_files.MARK).is_file():
            found.append(path)
    return found


def _taken(mirror: Path) -> int:
    """Return the bytes that the records of a mirror take."""
    return int(np.fromfile(mirror / mirror_files.STATE, mirror_files.HEADER, 1)["used"][0])


def _remove(mirror: Path) -> bool:
    """Remove a mirror that no process has open; tell whether it was."""
    try:
        lock = mirror_files.locked(mirror / mirror_files.IN_USE, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    (mirror / mirror_files.MARK).unlink()  # From here on it is none.
    shutil.rmtree(mirror, ignore_errors=True)
    os.close(lock)
    logging.info("the cache %s was removed: it had no room beside another data set", mirror)
    return True


def _check_holes(cache: Path) -> None:
    """Refuse a folder on a disk that cannot give back a part of a file.

    Raises:
      ValueError: it cannot.
    """
    with tempfile.TemporaryFile(dir=cache) as file:
        try:
            mirror_files.punch(file.fileno(), 0, 4096)
        except OSError as error:
            raise ValueError(
                f"{cache} cannot be the cache of a data set in an object store: its disk has no "
                f"files with holes ({error.strerror}). Give --cache_dir on a disk of Linux (ext4, "
                "xfs, btrfs, tmpfs)."
            ) from error
