"""The peers: installed on first use below benchmarks/.peers, at fixed versions."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import click

__all__ = ["LITELLM", "PORTKEY", "litellm_venv", "portkey_folder"]

LITELLM, PORTKEY = "litellm[proxy]==1.108.7", "@portkey-ai/gateway@1.15.2"
_PLACE = Path(__file__).parent / ".peers"


def litellm_venv() -> Path:
    """A virtual environment with LiteLLM's proxy and what it asks for, compiled as make compiles ours."""
    venv = _PLACE / "litellm"
    if not (venv / "installed").exists():
        click.echo(f"installing {LITELLM} into {venv}", err=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
        install = [sys.executable, "-m", "uv", "pip", "install", "-q", "--compile-bytecode"]
        subprocess.run([*install, "--python", venv / "bin" / "python", LITELLM], check=True)
        (venv / "installed").touch()
    return venv


def portkey_folder() -> Path | None:
    """Where npm put Portkey's gateway; None where there is no npm."""
    folder = _PLACE / "portkey"
    if shutil.which("npm") is None:
        click.echo("no npm here: Portkey's gateway is left out", err=True)
        return None
    if not (folder / "installed").exists():
        click.echo(f"installing {PORTKEY} into {folder}", err=True)
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["npm", "install", "--silent", "--no-audit", "--no-fund", PORTKEY], cwd=folder, check=True
        )
        (folder / "installed").touch()
    return folder
