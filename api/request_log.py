"""The log of requests: the request and client of each line, and one line for each request that failed."""

from __future__ import annotations

import logging

from flask import Response

from api.facade import Facade, FacadeRequest, this_request
from api.operation import request_id
from gifty_compute.clock import Clock
from gifty_compute.logging import set_log_context

__all__ = ["install"]

log = logging.getLogger(__name__)


def install(app: Facade, clock: Clock) -> None:
    """Gives each line that is written while a request is answered its `request_id` and `client`."""

    def begin() -> None:
        set_log_context(request_id=request_id())

    def end(answer: Response) -> Response:
        if answer.status_code >= 400:
            _tell(this_request(), answer.status_code, clock)
        return answer

    def forget(_error: BaseException | None) -> None:
        # The server reuses its threads; a line that is written between two requests belongs to neither.
        set_log_context()

    app.before_request(begin)
    app.after_request(end)
    app.teardown_request(forget)


def _tell(asked: FacadeRequest, status: int, clock: Clock) -> None:
    """A warning for a fault of ours or of a provider, which names it; else a note with the code alone.

    Paths are told by their pattern; nothing of the body, the query or the message of a refusal is.
    """
    path = asked.url_rule.rule if asked.url_rule else "none"
    about = {
        "method": asked.method,
        "path": path,
        "status": status,
        "code": asked.error_code,
        "milliseconds": round((clock.monotonic() - asked.began) * 1000, 1),
    }
    if status >= 500:
        about["reason"] = asked.error_message
    level = logging.WARNING if status >= 500 else logging.INFO
    log.log(level, "%s %s answered %d (%s)", asked.method, path, status, asked.error_code, extra=about)
