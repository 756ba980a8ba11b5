"""What a pydantic model found wrong first, in a line that quotes no value."""

from __future__ import annotations

from pydantic import ValidationError

__all__ = ["first_fault"]


def first_fault(error: ValidationError, *, whole: str) -> str:
    """Where it is and what it is; `whole` is how to call all of it, where no field is to blame."""
    found = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(str(part) for part in found['loc']) or whole}: {found['msg']}"
