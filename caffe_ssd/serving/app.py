"""The web application: `POST /detect`, `/healthz`, `/metrics`, and a page to try it.

Pictures come as a request's body or as the file of a form. They are limited in bytes, pixels
(`data.decode.max_pixels`) and in how many wait at a time; none is kept.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.types import Message

from caffe_ssd.data.decode import TooLargeError, decode_picture
from caffe_ssd.errors import DataError
from caffe_ssd.scoring.detector import Detector
from caffe_ssd.scoring.sources import Picture
from caffe_ssd.serving.batcher import Batcher
from caffe_ssd.serving.metrics import CONTENT_TYPE, Metrics

_PAGE = Path(__file__).with_name("page.html")
# The page needs nothing from elsewhere, and nobody else may frame it.
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; img-src 'self' blob:; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one server takes.

    Args:
        max_bytes: of one picture file.
        max_waiting: requests without an answer at a time; others are sent away.
    """

    max_bytes: int = 16 << 20
    max_waiting: int = 64


def make_app(detector: Detector, *, limits: Limits | None = None, name: str = "") -> FastAPI:
    """The application around a detector.

    Args:
        detector: looks at the pictures, in batches of `detector.batch`.
        limits: see `Limits`; None for its defaults.
        name: of the model, for people.
    """
    service = _Service(detector, Limits() if limits is None else limits)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(service.batcher.close)

    app = FastAPI(title="caffe serve", lifespan=lifespan, docs_url=None, redoc_url=None)

    @app.get("/", response_class=HTMLResponse)
    async def page() -> HTMLResponse:
        return HTMLResponse(_PAGE.read_text(encoding="utf-8"), headers=_PAGE_HEADERS)

    @app.get("/healthz")
    async def healthz() -> JSONResponse:
        alive = service.batcher.is_alive
        content = {
            "status": "ok" if alive else "stopped",
            "model": name,
            "classes": {str(label): text for label, text in detector.class_names.items()},
            "threshold": detector.threshold,
        }
        return JSONResponse(content, status_code=200 if alive else 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type=CONTENT_TYPE)

    @app.post("/detect")
    async def detect(
        request: Request, threshold: Annotated[float | None, Query(ge=0, le=1)] = None
    ) -> dict[str, Any]:
        return await service.detect(request, threshold)

    return app


class _Service:
    """What the routes share."""

    def __init__(self, detector: Detector, limits: Limits) -> None:
        self.metrics = Metrics()
        self.batcher = Batcher(detector, on_batch=self.metrics.batches.observe)
        self.batcher.warm_up()
        self._detector = detector
        self._limits = limits
        self._waiting = 0

    async def detect(self, request: Request, threshold: float | None) -> dict[str, Any]:
        """The answer to one request; every one is counted."""
        start, status = time.monotonic(), 500
        try:
            answer = await self._admitted(request, threshold)
            status = 200
            self.metrics.seconds.observe(time.monotonic() - start)
            return answer
        except HTTPException as refusal:
            status = refusal.status_code
            raise
        finally:
            self.metrics.requests.labels(status=str(status)).inc()

    async def _admitted(self, request: Request, threshold: float | None) -> dict[str, Any]:
        if self._waiting >= self._limits.max_waiting:
            raise HTTPException(
                503, "too many requests wait; try again", headers={"Retry-After": "1"}
            )
        self._waiting += 1
        self.metrics.waiting.set(self._waiting)
        try:
            name, data = await _read_file(request, self._limits.max_bytes)
            picture = await run_in_threadpool(_decode, data)
            found = await asyncio.wrap_future(self.batcher.submit(picture))
        finally:
            self._waiting -= 1
            self.metrics.waiting.set(self._waiting)
        lowest = self._detector.threshold if threshold is None else threshold
        shown = found.above(lowest)
        self.metrics.objects.inc(len(shown))
        return {**shown.to_dict(), "image": name}


async def _read_file(request: Request, limit: int) -> tuple[str, bytes]:
    """The name and bytes of the picture in a request.

    Raises:
        HTTPException: there is none (400), or it is too large (413).
    """
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > limit:
            raise HTTPException(413, f"a picture may have {limit} bytes")
    name = "picture"
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        name, data = await _form_file(request, bytes(data))
    if not data:
        raise HTTPException(400, "no picture: send its bytes as the body, or a form with a file")
    return name, bytes(data)


async def _form_file(request: Request, body: bytes) -> tuple[str, bytearray]:
    """The name and bytes of the first file of a form."""

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async with Request(request.scope, receive).form(max_files=1, max_fields=8) as form:
        for value in form.values():
            if isinstance(value, UploadFile):
                return value.filename or "picture", bytearray(await value.read())
    raise HTTPException(400, "the form has no file")


def _decode(data: bytes) -> Picture:
    try:
        return decode_picture(data, cv2.IMREAD_COLOR).astype(np.uint8, copy=False)
    except TooLargeError as error:
        raise HTTPException(413, f"the picture {error}") from error
    except DataError as error:
        raise HTTPException(400, f"the picture {error}") from error
