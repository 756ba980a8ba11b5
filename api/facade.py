"""The Flask application and its requests: Flask's own, without what no path here uses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from flask import Flask, Request, current_app, request
from werkzeug.routing import MapAdapter

from gifty_compute.errors import TooLarge
from gifty_compute.wire.token import WorkerToken

__all__ = ["Facade", "FacadeRequest", "this_app", "this_request"]

_SHORT_BYTES = 64 * 1024


class FacadeRequest(Request):
    """A request, and what is found out about it on its way."""

    began: float = 0.0
    """When it came, by the monotonic clock."""
    caller: str = ""
    """The name that its credential goes by."""
    worker_token: WorkerToken | None = None
    """The credential, where it is a worker's own."""
    request_id: str = ""
    """Empty until somebody asks for it."""
    address_scale: str = ""
    """The scale of a notebook's scores, as its address states it; empty where it states none."""
    error_code: str = ""
    """The code of the error that the request is answered with."""
    error_message: str = ""
    """The message of that error, as the caller gets it."""
    logic_version: str = ""
    """Of the logic that it goes by, as soon as that is chosen."""

    def header(self, name: str) -> str | None:
        """A header by its name in the environ, as HTTP_X_REQUEST_ID: a look into a dict and no more."""
        sent: str | None = self.environ.get(name)
        return sent

    def says_short(self) -> bool:
        """Whether the body says its length, and is short enough that hundreds of them fit into memory."""
        said = self.header("CONTENT_LENGTH") or ""
        return said.isdecimal() and not self.header("HTTP_TRANSFER_ENCODING") and int(said) <= _SHORT_BYTES

    def read(self, most: int) -> bytes:
        """The whole body. Raises TooLarge beyond so many bytes."""
        said = self.header("CONTENT_LENGTH") or ""
        if not said.isdecimal() or self.header("HTTP_TRANSFER_ENCODING"):
            body = self.get_data(cache=False)
            # Of a body without a length no more than this was read; the rest may be anything.
            if len(body) < most:
                return body
        elif int(said) <= most:
            sent: bytes = self.environ["wsgi.input"].read(int(said))
            return sent
        raise TooLarge(f"the body is over {most} bytes")


class Facade(Flask):
    """Flask, but paths are found without a look at host, scheme and cookies, which decide nothing here."""

    request_class = FacadeRequest

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """How the path of this request is matched; none outside of requests."""
        if request is None:
            return None
        return self.url_map.bind("", path_info=request.path, default_method=request.method)

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """The function itself: no view here is a coroutine."""
        return func


# Flask's proxies ask anew for what they stand for at each attribute; who reads several asks once.


def this_app() -> Facade:
    """The application that is answering, itself."""
    return cast("Facade", cast("Any", current_app)._get_current_object())


def this_request() -> FacadeRequest:
    """The request that is being answered, itself."""
    return cast("FacadeRequest", cast("Any", request)._get_current_object())
