"""`gifty-compute circuits`: which providers are left alone, why and how long; closing circuits by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from gifty_compute.callbacks.commands import plain
from gifty_compute.operators.service import Service, find_service

__all__ = ["circuits"]


@click.group()
@click.option("--url", envvar="GIFTY_COMPUTE_URL", help="Of the facade.  [env: GIFTY_COMPUTE_URL]")
@click.option("--ops-token", envvar="GIFTY_OPS_TOKEN", help="One of OPS_TOKENS.  [env: GIFTY_OPS_TOKEN]")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Data directory of a running `up`, whose run.json has both.  [default: that of `up`]",
)
@click.pass_context
def circuits(context: click.Context, url: str | None, ops_token: str | None, data_dir: Path | None) -> None:
    """Circuits of a running service: providers that failed, and are left alone for a while."""
    context.obj = lambda: find_service(data_dir, url, ops_token)


@circuits.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_context
def list_(context: click.Context, as_json: bool) -> None:
    """Show which circuits are open, why, and for how long."""
    service: Service = context.obj()
    found = service.get("/ops/circuits")["circuits"]
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    table = Table()
    for heading in ("circuit", "state", "seconds left", "failures", "code", "status", "reason"):
        # A name that is cut could not be given to `close`.
        table.add_column(heading, overflow="fold", no_wrap=heading not in ("circuit", "reason"))
    for one in found:
        table.add_row(*_row(one))
    plain().print(table if found else "all circuits are closed")


@circuits.command()
@click.argument("name")
@click.pass_context
def close(context: click.Context, name: str) -> None:
    """Let providers be asked again at once: NAME is a circuit's, or a provider's for all of its circuits."""
    service: Service = context.obj()
    for one in service.post("/ops/circuits/close", {"name": name})["closed"]:
        click.echo(f"{one} is closed")


def _row(one: dict[str, Any]) -> list[str]:
    seconds = f"{one['seconds_left']:.0f}" if one["seconds_left"] else ""
    told = (one[name] for name in ("failures", "code", "status", "reason"))
    return [one["circuit"], one["state"], seconds, *("" if value is None else str(value) for value in told)]
