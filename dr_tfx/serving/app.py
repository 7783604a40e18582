"""The routes of the server: what they take, what they answer, and who may ask.

    GET   /                the page, with its style and its script
    POST  /v1/predict      photographs become answers
    GET   /v1/models       the model
    GET   /healthz         whether the process is alive
    GET   /readyz          whether it reads photographs
    GET   /drift           a page: whether photographs are still like those of validation
    GET   /metrics         figures for Prometheus
    GET   /openapi.json    all of this for programs

Nothing that a client sends is logged. The documentation pages of FastAPI are left out, because they
load scripts from elsewhere.
"""

import asyncio
import base64
import hmac
import logging
import time
import traceback
from typing import Annotated, Any
from urllib.parse import urlsplit

import fastapi
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import dr_tfx
from dr_tfx.serving import answers, limits, metrics, page, service, uploads

SHORTEST_KEY = 16
_DRIFT = "/drift"
_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
# A page that holds its style and its drawings, as it also stands in a file.
_OF_WHOLE_PAGE = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
_FILES = {
    "type": "object",
    "properties": {
        "photograph": {"type": "array", "items": {"type": "string", "format": "binary"}}
    },
}
_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {"schema": _FILES},
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
    },
}
_REFUSALS: dict[int | str, dict[str, Any]] = {
    401: {"model": answers.Failure, "description": "The key is missing or wrong."},
    408: {"model": answers.Failure, "description": "The upload took too long."},
    429: {"model": answers.Failure, "description": "Too much is in work; see Retry-After."},
    503: {"model": answers.Failure, "description": "The answer took too long; see Retry-After."},
}
_NOT_READ = "No photograph could be read: {}. Or the request itself is refused, with a detail."
_PREDICTED: dict[int | str, dict[str, Any]] = {
    200: {
        "model": answers.RequestAnswer,
        "description": "One photograph or more was read.",
        "content": {"application/json": {"example": answers.EXAMPLE}},
    },
    **{
        status: {
            "model": answers.RequestAnswer | answers.Failure,
            "description": _NOT_READ.format(why),
        }
        for status, why in (
            (413, "too large"),
            (415, "no image of a known format"),
            (422, "damaged, or refused by the quality gate"),
        )
    },
    **_REFUSALS,
}
_LOG = logging.getLogger(__name__)


def create(
    served: service.Service, figures: metrics.Metrics, *, key: str, names: tuple[str, ...]
) -> ASGIApp:
    """Return the application.

    Args:
      served: reads photographs.
      figures: counts them.
      key: what a client has to know; "" for none.
      names: those by which the server may be asked; any if there are none.
    """
    rate = limits.Rate(served.limits.requests_per_minute)
    app = fastapi.FastAPI(
        title="dr_tfx",
        version=dr_tfx.__version__,
        description=dr_tfx.NOTICE,
        docs_url=None,
        redoc_url=None,
    )

    async def allowed(request: fastapi.Request) -> None:
        """Refuse whoever has no key, or asks too often."""
        rate.check(request.client.host if request.client else "")
        told = request.headers.get("authorization", "")
        if request.url.path == _DRIFT:
            told = _as_bearer(told)
        if key and not hmac.compare_digest(told.encode("latin-1"), b"Bearer " + key.encode()):
            raise limits.Refused(401, "the header 'Authorization: Bearer KEY' is missing or wrong")

    guarded = fastapi.APIRouter(dependencies=[fastapi.Depends(allowed)], responses=_REFUSALS)

    @guarded.post("/v1/predict", responses=_PREDICTED, openapi_extra={"requestBody": _BODY})
    async def predict(
        request: fastapi.Request,
        heatmap: Annotated[bool, fastapi.Query(description="Draw heat maps too.")] = False,
    ) -> JSONResponse:
        """Read photographs: a form with files, or the bytes of one. JPEG to DICOM."""
        return await _predict(request, served, figures, heatmap=heatmap)

    @guarded.get("/v1/models")
    async def models() -> dict[str, list[dict[str, Any]]]:
        """Tell what the model is."""
        return {"models": [served.model.described()]}

    @guarded.get("/metrics", response_class=PlainTextResponse)
    async def of_prometheus() -> Response:
        """Tell figures."""
        text = await asyncio.to_thread(figures.text, served)
        return Response(text, media_type=metrics.CONTENT_TYPE)

    @app.get("/healthz")
    async def alive() -> dict[str, str]:
        """Tell that the process is alive."""
        return {"status": "alive"}

    @app.get("/readyz", responses={503: {"model": answers.Failure}})
    async def ready() -> dict[str, str]:
        """Tell whether photographs are read."""
        if not served.batcher.is_alive:
            raise limits.Refused(503, "no photographs are read", after=1)
        return {"status": "ready"}

    _add_refusals(app)
    _add_drift(guarded, served)
    _add_page(app, served, asks_key=bool(key))
    app.include_router(guarded)
    return _Shell(app, figures, names=names)


def _as_bearer(authorization: str) -> str:
    """Return what a browser sends that has asked for a password as a client sends the key."""
    scheme, _, content = authorization.partition(" ")
    if scheme != "Basic":
        return authorization
    try:
        told = base64.b64decode(content, validate=True).decode("latin-1")
    except ValueError:
        return ""
    return f"Bearer {told.partition(':')[2]}"


def _add_refusals(app: fastapi.FastAPI) -> None:
    """Have errors answered with their reason."""

    @app.exception_handler(limits.Refused)
    async def refused(request: fastapi.Request, error: limits.Refused) -> JSONResponse:
        headers = {} if error.after is None else {"retry-after": str(error.after)}
        if error.status == 401 and request.url.path == _DRIFT:
            headers["www-authenticate"] = 'Basic realm="dr_tfx: the key is the password"'
        return JSONResponse({"detail": error.why}, error.status, headers)

    @app.exception_handler(ClientDisconnect)
    async def left(request: fastapi.Request, error: ClientDisconnect) -> Response:
        return Response(status_code=400)  # Nobody reads it.

    @app.exception_handler(RequestValidationError)
    async def wrong(request: fastapi.Request, error: RequestValidationError) -> JSONResponse:
        found = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        return JSONResponse({"detail": "; ".join(found)}, 422)


def _add_page(app: fastapi.FastAPI, served: service.Service, *, asks_key: bool) -> None:
    """Add the page and its files, which need no key: there is nothing of anybody on them."""

    @app.get("/", include_in_schema=False)
    async def shown(request: fastapi.Request, lang: str = "") -> Response:
        accepted = request.headers.get("accept-language", "")
        language = page.language_of(lang, accepted)
        most = served.limits.photographs
        text = page.html(served.model, photographs=most, language=language, asks_key=asks_key)
        return Response(text, media_type="text/html", headers={"vary": "accept-language"})

    @app.get("/clinic.{ending}", include_in_schema=False)
    async def of_page(ending: str) -> Response:
        if ending not in page.FILES:
            raise limits.Refused(404, "there is no such file")
        return Response(page.text_of(ending), media_type=page.FILES[ending])


def _add_drift(guarded: fastapi.APIRouter, served: service.Service) -> None:
    """Add the page of what was read, beside validation."""

    @guarded.get(_DRIFT, include_in_schema=False)
    async def drifted(request: fastapi.Request, lang: str = "") -> Response:
        language = page.language_of(lang, request.headers.get("accept-language", ""))
        told = served.model, served.days
        text = await asyncio.to_thread(page.drift_html, *told, language=language)
        headers = {"vary": "accept-language", "content-security-policy": _OF_WHOLE_PAGE}
        return Response(text, media_type="text/html", headers=headers)


async def _predict(
    request: fastapi.Request,
    served: service.Service,
    figures: metrics.Metrics,
    *,
    heatmap: bool,
) -> JSONResponse:
    bounds, each = served.limits, served.batcher.seconds_each
    given: list[uploads.Upload] | None = None
    try:
        async with asyncio.timeout(bounds.seconds):
            with served.admission.held(uploads.size_of(request, bounds), seconds_each=each):
                given = await uploads.received(request, bounds)
                model, told, status = await served.read(given, heatmaps=heatmap)
    except TimeoutError as error:
        what = "answer" if given else "upload"
        why = f"the {what} took more than {bounds.seconds} s"
        raise limits.Refused(503 if given else 408, why, after=1 if given else None) from error
    figures.count(told)
    return JSONResponse(answers.of_request(model, told).model_dump(), status)


class _Shell:
    """What is around every route: safe headers, names that are not ours, and unforeseen errors."""

    def __init__(self, app: ASGIApp, figures: metrics.Metrics, *, names: tuple[str, ...]):
        self._app, self._figures, self._names = app, figures, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.perf_counter(), 0

        async def told(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                given = dict(message.get("headers", []))
                extra = {name.encode(): value.encode() for name, value in _HEADERS.items()} | given
                message["headers"] = list(extra.items())
            await send(message)

        try:
            if why := self._foreign(dict(scope["headers"])):
                await JSONResponse({"detail": why}, 403)(scope, receive, told)
            else:
                await self._app(scope, receive, told)
        except Exception as error:
            # Neither the message nor the values, which may be of a photograph.
            where = "".join(traceback.format_tb(error.__traceback__))
            _LOG.error("%s at\n%s", type(error).__name__, where)
            if not status:
                await JSONResponse({"detail": "internal error"}, 500)(scope, receive, told)
        finally:
            self._figures.request(scope["path"], status, time.perf_counter() - start)

    def _foreign(self, headers: dict[bytes, bytes]) -> str:
        """Return why a request is refused that a page of somebody else's may have made, else "".

        A browser sends what any page asks for to this machine's own address, and so does one that
        was told that the page's name is here (DNS rebinding).
        """
        host = headers.get(b"host", b"").decode("latin-1")
        origin = headers.get(b"origin", b"").decode("latin-1")
        try:
            name, of_origin = urlsplit(f"//{host}").hostname, urlsplit(origin).netloc
        except ValueError:
            return "the header Host or Origin is damaged"
        if self._names and name not in self._names:
            return "this server is asked by the name of this machine alone"
        if origin and of_origin != host:
            return "the request comes from another page"
        return ""
