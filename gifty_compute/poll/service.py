"""`gifty-worker install-service`: a worker that starts with the machine, under systemd's user manager."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import click

from gifty_compute.door import checked_token, checked_url
from gifty_compute.errors import InvalidConfig
from gifty_compute.poll.unit import Hours, Unit, environment_file

__all__ = ["install_service"]


@click.command("install-service", context_settings={"ignore_unknown_options": True})
@click.option(
    "--api", required=True, envvar="GIFTY_COMPUTE_URL", show_envvar=True, help="Address of the facade."
)
@click.option(
    "--token",
    envvar="GIFTY_WORKER_TOKEN",
    show_envvar=True,
    prompt=True,
    hide_input=True,
    help="Kept in a file that you alone may read; asked for if it is not given.",
)
@click.option("--name", default="gifty-worker", show_default=True, help="Of the service; one for each GPU.")
@click.option("--hours", metavar="FROM-TO", help="Works only then, e.g. 22:00-07:00.  [default: always]")
@click.option("--gpu", metavar="N", help="Uses this GPU alone, as CUDA numbers them.  [default: the first]")
@click.option("--start/--no-start", default=True, help="Whether it is also enabled and started.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def install_service(
    api: str,
    token: str,
    name: str,
    hours: str | None,
    gpu: str | None,
    start: bool,
    arguments: tuple[str, ...],
) -> None:
    """Installs this worker as a service of yours: it starts with the machine and again after a failure.

    What is not named here goes to the worker, e.g. --worker-id home-1 --model multilingual-e5-small.
    """
    try:
        checked_url(api)
        variables = {"GIFTY_COMPUTE_URL": api, "GIFTY_WORKER_TOKEN": checked_token(token.strip())}
        when = None if hours is None else Hours.read(hours)
        unit = Unit(_checked_name(name), [_program(), *arguments], _config(name), when)
    except InvalidConfig as error:
        raise click.UsageError(error.message) from error
    if gpu is not None:
        variables["CUDA_VISIBLE_DEVICES"] = gpu
    _write_whole(unit.environment, environment_file(variables), 0o600)
    folder = _home("XDG_CONFIG_HOME", ".config") / "systemd" / "user"
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in unit.files().items():
        _write_whole(folder / file, text, 0o644)
        click.echo(f"wrote {folder / file}")
    if start:
        _systemctl("daemon-reload")
        _systemctl("enable", *unit.enabled)
        # A worker that an earlier install started is drained, and begins again with what is new.
        _systemctl("try-restart", f"{name}.service")
        _systemctl("start", *unit.enabled)
    click.echo(f"See it: systemctl --user status {name}; journalctl --user -u {name} -f")
    click.echo("So that it works while you are not logged in: loginctl enable-linger")


def _checked_name(name: str) -> str:
    if not (name and name.isascii() and name.replace("-", "").replace("_", "").isalnum()):
        raise InvalidConfig(f"--name {name[:40]!r} must be of letters, digits, - and _")
    return name


def _program() -> str:
    """The gifty-worker of this very installation, whatever PATH the service will have."""
    script = Path(sysconfig.get_path("scripts")) / "gifty-worker"
    found = str(script) if script.exists() else shutil.which("gifty-worker")
    if found is None:
        raise InvalidConfig("there is no gifty-worker here: pip install 'gifty-compute[worker]'")
    return found


def _config(name: str) -> Path:
    return _home("XDG_CONFIG_HOME", ".config") / "gifty-worker" / f"{name}.env"


def _home(variable: str, fallback: str) -> Path:
    return Path(os.environ.get(variable) or Path.home() / fallback)


def _write_whole(path: Path, text: str, mode: int) -> None:
    """Writes the file beside and renames it: a service that starts meanwhile finds the old one or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _systemctl(*arguments: str) -> None:
    command = ["systemctl", "--user", *arguments]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # no shell
    except FileNotFoundError as error:
        raise click.ClickException("this machine has no systemd; the files are written") from error
    if ended.returncode:
        message = f"{' '.join(command)}: {ended.stderr.strip()}; the files are written"
        raise click.ClickException(message)
