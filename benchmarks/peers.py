"""The peers: installed on first use below benchmarks/.peers, at fixed versions."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import click

__all__ = ["INFINITY", "LITELLM", "PORTKEY", "infinity_venv", "litellm_venv", "portkey_folder"]

LITELLM, PORTKEY = "litellm[proxy]==1.108.7", "@portkey-ai/gateway@1.15.2"
INFINITY, TORCH = "infinity-emb[server,torch]==0.0.78", "torch==2.13.0"
_PLACE = Path(__file__).parent / ".peers"


def litellm_venv() -> Path:
    """A virtual environment with LiteLLM's proxy and what it asks for, compiled as make compiles ours."""
    return _venv("litellm", ["uv", "pip", "install", "-q", "--compile-bytecode"], LITELLM)


def infinity_venv() -> Path:
    """One with infinity-emb's server. By pip, and a fixed torch: what else there is takes CUDA along."""
    return _venv("infinity", ["pip", "--disable-pip-version-check", "install", "-q"], TORCH, INFINITY)


def _venv(name: str, install: list[str], *packages: str) -> Path:
    venv = _PLACE / name
    if not (venv / "installed").exists():
        click.echo(f"installing {', '.join(packages)} into {venv}", err=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
        python = venv / "bin" / "python"
        if install[0] == "uv":
            command = [sys.executable, "-m", *install, "--python", python]
        else:
            command = [python, "-m", *install]
        subprocess.run([*command, *packages], check=True)
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
