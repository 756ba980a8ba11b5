"""The server's command line: for how long a connection may lie idle."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from api.server import command
from gifty_compute.stack.options import Options
from gifty_compute.stack.programs import Addresses, programs

BALANCERS_IDLE_MS = 60_000


def idle_ms(*options: str) -> int:
    context = command().make_context("server", [*options, "api.wsgi:app"], resilient_parsing=False)
    found: int = context.params["http1_header_read_timeout"]
    return found


def test_an_idle_connection_outlasts_that_of_a_load_balancer() -> None:
    """P25: closed after 30 s, while balancers send the next request over it for 60 s."""
    assert idle_ms() > BALANCERS_IDLE_MS


def test_it_can_be_longer_than_granian_allows() -> None:
    assert idle_ms("--http1-header-read-timeout", "400000") == 400_000


def test_the_facade_is_started_by_it(tmp_path: Path) -> None:
    facade, *_ = programs(
        Options(data_dir=tmp_path),
        Addresses(1, 2),
        beat_schedule=tmp_path,
        flower_auth="",
        internal_token="",
        facade_threads="8",
    )

    assert facade.argv[:3] == (sys.executable, "-m", "api.server")
    assert isinstance(command(), click.Command)
    assert "--http1-header-read-timeout" not in facade.argv
