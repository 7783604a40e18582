"""The photographs of a request, held in memory alone.

A request is a form with files (`multipart/form-data`), or the bytes of one photograph. Its length
is bounded while it arrives, and no byte of it is written to a disk.
"""

from collections.abc import AsyncGenerator
from typing import NamedTuple

from starlette import formparsers
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect, Request

from dr_tfx.serving.limits import Limits, Refused
from dr_tfx.storage import seen_text

_FORM = "multipart/form-data"
_MOST_NAME = 200  # Characters of a name that are given back.
_MOST_FIELDS = 10  # Besides the files; they are ignored.


class Upload(NamedTuple):
    """A photograph as it was sent."""

    name: str  # As the client calls it; "" if it does not.
    data: bytes


def size_of(request: Request, limits: Limits) -> int:
    """Return the most bytes that a request will have, from its header.

    Raises:
      Refused: the header says more than is taken, or nonsense.
    """
    told = request.headers.get("content-length")
    if told is None:
        return limits.body
    if not (told.isascii() and told.isdigit()):
        raise Refused(422, "the header Content-Length is no number")
    if int(told) > limits.body:
        raise _too_long(limits)
    return int(told)


async def received(request: Request, limits: Limits) -> list[Upload]:
    """Return the photographs of a request.

    Raises:
      Refused: there are too many or too large ones, or none, or the form is damaged.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == _FORM:
        found = await _of_form(request, limits)
    else:
        data = b"".join([chunk async for chunk in _bounded(request, limits)])
        found = [Upload(_name(request.query_params.get("name")), data)] if data else []
    if not found:
        raise Refused(422, "the request has no photograph: send a form with files, or its bytes")
    for one in found:
        if len(one.data) > limits.bytes:
            raise Refused(413, f"a photograph has more than {limits.megabytes} million bytes")
    return found


class _Form(formparsers.MultiPartParser):
    """A parser that knows whether the form was closed, without which a photograph may be missing.

    Attributes:
      is_whole: whether the end of the form was seen.
    """

    is_whole = False

    def on_end(self) -> None:
        self.is_whole = True


async def _of_form(request: Request, limits: Limits) -> list[Upload]:
    parser = _Form(
        request.headers,
        _bounded(request, limits),
        max_files=limits.photographs,
        max_fields=_MOST_FIELDS,
    )
    parser.spool_max_size = limits.body + 1  # Else it would write what is longer to a disk.
    try:
        form = await parser.parse()
    except (Refused, ClientDisconnect):
        raise
    except Exception as error:  # It raises KeyError, LookupError and more for damaged headers.
        if str(getattr(error, "message", "")).startswith("Too many files"):
            why = f"the request has more than {limits.photographs} photographs"
            raise Refused(413, why) from error
        raise Refused(422, "the form is damaged") from error
    if not parser.is_whole:
        raise Refused(422, "the form is cut off")
    files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
    return [Upload(_name(one.filename), await one.read()) for one in files]


def _name(told: str | None) -> str:
    return seen_text.printable((told or "")[:_MOST_NAME])


async def _bounded(request: Request, limits: Limits) -> AsyncGenerator[bytes, None]:
    """Yield the body of a request as it arrives, up to the most that is taken."""
    length = 0
    async for chunk in request.stream():
        length += len(chunk)
        if length > limits.body:
            raise _too_long(limits)
        yield chunk


def _too_long(limits: Limits) -> Refused:
    return Refused(413, f"the request has more than {limits.body / 1e6:.0f} million bytes")
