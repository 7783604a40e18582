"""The clients of object stores, by fsspec, and where one of them has to be used in another way.

Addresses are `gs://bucket/x` and the like. Each needs the package of its store, which the extras of
setup.py bring.
"""

import logging
from typing import Any

import fsspec
import fsspec.asyn

_EXTRAS = {"gs": "dataflow", "s3": "s3", "az": "azure", "abfs": "azure", "hf": "hub"}
_TIMEOUT = 30.0  # Seconds in which an answer has to begin, and to go on.
# What they tell of every request and process, and of errors that are told in a sentence here.
for _client, _level in (
    ("aiobotocore", logging.WARNING),
    ("botocore", logging.WARNING),
    ("httpx", logging.WARNING),
    ("httpx2", logging.WARNING),
    ("azure", logging.ERROR),
    ("huggingface_hub.utils._http", logging.ERROR),
    ("gcsfs", logging.CRITICAL),
):
    logging.getLogger(_client).setLevel(_level)


class GoogleError(OSError):
    """What Google's store answers in place of an object, with HTTP's status and headers."""

    def __init__(self, status: int, headers: Any, text: str) -> None:
        super().__init__(text)
        self.status, self.headers = status, headers


def client(address: str, **settings: Any) -> tuple[Any, str]:
    """Return the file system of an address, and the address as that file system knows it.

    Listings are never cached: workers write into the same folders.

    Args:
      settings: of fsspec besides, such as `skip_instance_cache`.

    Raises:
      ImportError: the package of the store is not installed.
    """
    return fsspec.core.url_to_fs(address, use_listings_cache=False, **settings)


def fresh(address: str) -> tuple[Any, str]:
    """Return what `client` does, for a listing: the Hub's client caches them nevertheless."""
    store, key = client(address)
    store.invalidate_cache()
    return store, key


def reader(folder: str) -> tuple[Any, str]:
    """Return what `client` does, for `part` of the objects in a folder, in many threads."""
    settings: dict[str, Any] = {"skip_instance_cache": True}
    if folder.startswith(("gs://", "gcs://")):
        settings["session_kwargs"] = {"raise_for_status": _check_google}
    store, key = client(folder, **settings)
    if _is_hub(store):
        store.ls(key)  # Else every thread would ask what there is.
    return store, key


def part(store: Any, key: str, start: int, end: int) -> bytes:
    """Return the bytes of an object from `start` up to `end`, or what there is of them.

    This is one request, which `store_reads` repeats where it has to be repeated. The clients of
    Microsoft and of the Hub would repeat it by themselves, after waits that nobody can interrupt:
    15 s or more, or as long as the Hub says. The Hub's also asks for megabytes behind the end.
    So would Google's, but the connections of `reader` raise what it does not repeat.
    """
    if _is_hub(store):
        return _part_from_hub(store, key, start, end)
    if "az" in store.protocol:
        return _part_from_microsoft(store, key, start, end)
    return store.cat_file(key, start=start, end=end)


async def _check_google(answer: Any) -> None:
    """Raise a GoogleError if there is no object: the client's own errors lack the headers."""
    if answer.status >= 400:
        text = f"{answer.status} {answer.reason}: {await answer.text(errors='replace')}"
        raise GoogleError(answer.status, answer.headers, text)


def _part_from_hub(store: Any, key: str, start: int, end: int) -> bytes:
    from huggingface_hub import utils

    headers = utils.build_hf_headers(token=store.token)
    headers["Range"] = f"bytes={start}-{end - 1}"
    answer = utils.get_session().get(store.url(key), headers=headers, timeout=_TIMEOUT)
    utils.hf_raise_for_status(answer)
    return answer.content


def _part_from_microsoft(store: Any, key: str, start: int, end: int) -> bytes:
    async def read() -> bytes:
        container, name, _ = store.split_path(key)
        once = {"retry_total": 0, "read_timeout": _TIMEOUT}
        async with store.service_client.get_blob_client(container, name) as blob:
            stream = await blob.download_blob(start, end - start, **once)
            return await stream.readall()

    return fsspec.asyn.sync(store.loop, read)


def upload(address: str) -> Any:
    """Open a new object, which is there once its stream is closed and committed.

    Raises:
      OSError: the Hub takes no single files: each would be a commit.
    """
    store, key = client(address)
    if _is_hub(store):
        raise OSError(
            f"{address} cannot be written: a repository of the Hub is uploaded as a whole. Write "
            "into a folder, and type: hf upload USER/NAME FOLDER --repo-type=dataset"
        )
    return store.open(key, "wb", autocommit=False)


def lacking(path: str, error: ImportError) -> str:
    """Return a sentence about the package that an address needs."""
    scheme = path.partition("://")[0]
    told = f"{path}: {scheme}:// needs a package that is not installed: {error}"
    return f"{told}. Type: pip install 'dr_tfx[{_EXTRAS[scheme]}]'" if scheme in _EXTRAS else told


def _is_hub(store: Any) -> bool:
    return store.protocol == "hf"
