"""gzip: bodies that come compressed, within the limit of what they may become; large answers that go so."""

from __future__ import annotations

import gzip
import zlib

from flask import Response, request

from gifty_compute.errors import MalformedBody, TooLarge

__all__ = ["LONGEST_ACCEPT", "compressed", "unpacked"]

LONGEST_ACCEPT = 1000
"""Characters of an Accept header that is read: each word of it takes some microseconds."""

# A smaller answer fits into a few packets as it is.
_LARGE = 8 * 2**10
# Level 1 makes of Russian JSON a fifth, as level 6 does, in a third of the time.
_LEVEL = 1
_GZIP = 16 + zlib.MAX_WBITS


def unpacked(body: bytes, most: int) -> bytes:
    """The body behind `Content-Encoding: gzip`. Raises MalformedBody, and TooLarge past `most` bytes.

    No more than that is ever unpacked, whatever a bomb would become.
    """
    unpacking = zlib.decompressobj(_GZIP)
    try:
        content = unpacking.decompress(body, most + 1)
    except zlib.error as error:
        raise MalformedBody("the body is not gzip, as its Content-Encoding says") from error
    if len(content) > most:
        raise TooLarge(f"the body is over {most} bytes when unpacked")
    if not unpacking.eof:
        raise MalformedBody("the body ends before its gzip stream does")
    if unpacking.unused_data:
        raise MalformedBody("the body goes on after its gzip stream")
    return content


def compressed(answer: Response) -> Response:
    """The answer, packed if it is large and its reader says that it takes gzip."""
    answer.vary.add("Accept-Encoding")
    if answer.is_streamed or answer.status_code != 200 or "Content-Encoding" in answer.headers:
        return answer
    content = answer.get_data()
    wanted = request.headers.get("Accept-Encoding", "")
    if len(content) < _LARGE or len(wanted) > LONGEST_ACCEPT:
        return answer
    if request.accept_encodings.quality("gzip") > 0:
        answer.set_data(gzip.compress(content, _LEVEL, mtime=0))
        answer.headers["Content-Encoding"] = "gzip"
    return answer
