"""The doors of the two console scripts: they name the extra that is missing, without a traceback."""

from __future__ import annotations

from typing import NoReturn

__all__ = ["compute", "worker"]


def compute() -> None:
    """`gifty-compute`: up, demo and the operators' commands. Exits 1 where [server] is not installed."""
    try:
        # Imported here, not above: pip makes this script on a bare install too, where the
        # import fails; only here can that become a sentence.
        from gifty_compute.cli import main  # noqa: PLC0415 - see above
    except ModuleNotFoundError as error:
        _name_the_extra(error, program="gifty-compute", extra="server")
    main(prog_name="gifty-compute")


def worker() -> None:
    """`gifty-worker`: the poll worker. Exits 1 where [worker] is not installed."""
    try:
        from gifty_compute.poll.cli import main  # noqa: PLC0415 - as in compute()
    except ModuleNotFoundError as error:
        _name_the_extra(error, program="gifty-worker", extra="worker")
    main(prog_name="gifty-worker")


def _name_the_extra(error: ModuleNotFoundError, *, program: str, extra: str) -> NoReturn:
    """Exits with the sentence; a missing module of our own is a bug and keeps its traceback."""
    if error.name is None or error.name.partition(".")[0] == "gifty_compute":
        raise error
    raise SystemExit(f"{program} needs its {extra} parts: pip install 'gifty-compute[{extra}]'") from error


if __name__ == "__main__":
    compute()
