"""What `gifty-compute up` may be told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gifty_compute.embedded.errors import EmbeddedError

__all__ = ["Options", "default_data_dir", "find_checkout"]


@dataclass(frozen=True)
class Options:
    """The command line of `up`. Port 0 means any free one."""

    data_dir: Path
    port: int = 8000
    celery_workers: int = 1
    poll_workers: int = 1


def default_data_dir(environ: Mapping[str, str]) -> Path:
    """Where the data is kept when no directory is given.

    >>> default_data_dir({"XDG_DATA_HOME": "/data", "HOME": "/home/ann"})
    PosixPath('/data/gifty-compute')
    >>> default_data_dir({"HOME": "/home/ann"})
    PosixPath('/home/ann/.local/share/gifty-compute')
    """
    if base := environ.get("XDG_DATA_HOME"):
        return Path(base) / "gifty-compute"
    home = Path(environ["HOME"]) if environ.get("HOME") else Path.home()
    return home / ".local/share/gifty-compute"


def find_checkout() -> Path:
    """The directory that holds `api/` and `workers/`: the package's own checkout, or where we are."""
    for directory in (Path(__file__).resolve().parents[2], Path.cwd()):
        if (directory / "api/wsgi.py").is_file():
            return directory
    raise EmbeddedError(
        f"`gifty-compute up` runs the programs of a checkout, and neither the package's directory"
        f" nor {Path.cwd()} holds api/wsgi.py: run it from a clone of the project"
    )
