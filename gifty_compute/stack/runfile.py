"""`run.json`: where a running stack is, for programs and people on this machine."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from gifty_compute.embedded.private import write_private

__all__ = ["RunInfo", "write_run_info"]


@dataclass(frozen=True)
class RunInfo:
    """Addresses, credentials (so the file is 0600) and pids of one running stack."""

    api_url: str
    api_token: str
    internal_token: str
    ops_token: str
    callback_secret: str
    database_url: str
    redis_url: str
    flower_url: str
    flower_auth: str
    data_dir: str
    pids: dict[str, int]


def write_run_info(path: Path, info: RunInfo) -> None:
    """Write the file, whole or not at all."""
    write_private(path, json.dumps(asdict(info), indent=2, ensure_ascii=False) + "\n")
