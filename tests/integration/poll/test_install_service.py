"""systemd units of a worker at home."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from gifty_compute.errors import InvalidConfig
from gifty_compute.poll.cli import main
from gifty_compute.poll.service import install_service
from gifty_compute.poll.unit import Hours, Unit, environment_file

TOKEN = "gwt_token-of-the-test"


def installed(home: Path, *arguments: str) -> tuple[int, str]:
    """What the command says and does in this home."""
    given = ["--api", "https://compute.example.com", "--no-start", *arguments]
    environment = {"HOME": str(home), "XDG_CONFIG_HOME": "", "GIFTY_WORKER_TOKEN": TOKEN}
    ended = CliRunner().invoke(install_service, given, env=environment)
    return ended.exit_code, ended.output


def within(hours: str, now: str) -> bool:
    """Whether a shell finds the condition true at that time."""
    script = f"now={now.replace(':', '')}; {Hours.read(hours).condition}"
    return subprocess.run(["/bin/sh", "-c", script], check=False).returncode == 0


@pytest.mark.parametrize(
    ("hours", "inside", "outside"),
    [
        ("22:00-07:00", ("22:00", "23:59", "00:00", "06:59", "00:08"), ("07:00", "21:59")),
        ("09:30-18:00", ("09:30", "17:59"), ("09:29", "18:00", "00:00")),
    ],
)
def test_hours_hold_from_their_begin_to_before_their_end(
    hours: str, inside: tuple[str, ...], outside: tuple[str, ...]
) -> None:
    assert [within(hours, now) for now in inside] == [True] * len(inside)
    assert [within(hours, now) for now in outside] == [False] * len(outside)


@pytest.mark.parametrize("text", ["22-7", "25:00-07:00", "22:00-22:00", "22:00-07:60", ""])
def test_hours_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(InvalidConfig, match="must be like"):
        Hours.read(text)


def test_the_service_restarts_on_failure_and_is_given_time_for_its_batch(tmp_path: Path) -> None:
    assert installed(tmp_path, "--worker-id", "home-1")[0] == 0

    text = (tmp_path / ".config/systemd/user/gifty-worker.service").read_text()
    assert "Restart=on-failure" in text
    assert "TimeoutStopSec=180" in text
    assert '"--worker-id" "home-1"' in text
    assert "WantedBy=default.target" in text


def test_an_install_that_is_interrupted_leaves_the_files_of_the_one_before_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K2: half an environment file has lost the GPU that the worker is bound to."""
    installed(tmp_path, "--gpu", "1")
    files = [
        tmp_path / ".config" / one
        for one in ("gifty-worker/gifty-worker.env", "systemd/user/gifty-worker.service")
    ]
    before = [file.read_text() for file in files]

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gifty_compute.poll.service.os.fsync", full)
    code, _ = installed(tmp_path, "--gpu", "0", "--worker-id", "home-2")

    assert code != 0
    assert [file.read_text() for file in files] == before


def test_the_token_is_in_a_private_file_alone(tmp_path: Path) -> None:
    _, said = installed(tmp_path, "--hours", "22:00-07:00", "--gpu", "1")

    secret = tmp_path / ".config/gifty-worker/gifty-worker.env"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert f'GIFTY_WORKER_TOKEN="{TOKEN}"' in secret.read_text()
    assert 'CUDA_VISIBLE_DEVICES="1"' in secret.read_text()
    units = [path.read_text() for path in (tmp_path / ".config/systemd/user").iterdir()]
    assert TOKEN not in said + "".join(units)


def test_a_second_install_replaces_the_first(tmp_path: Path) -> None:
    installed(tmp_path, "--worker-id", "old")

    assert installed(tmp_path, "--worker-id", "new")[0] == 0

    assert "old" not in (tmp_path / ".config/systemd/user/gifty-worker.service").read_text()


@pytest.mark.parametrize("arguments", [("--hours", "7-9"), ("--name", "a b"), ("--api", "ftp://x")])
def test_what_cannot_be_is_refused_and_nothing_is_written(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    code, _ = installed(tmp_path, *arguments)

    assert code == 2
    assert not (tmp_path / ".config").exists()


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not on this machine")
@pytest.mark.parametrize("hours", [None, Hours("22:00", "07:00")])
def test_systemd_itself_finds_no_fault_with_the_units(tmp_path: Path, hours: Hours | None) -> None:
    program = tmp_path / "a folder 100%" / "gifty-worker"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = Unit("gifty-worker", [str(program), "--model", 'quote"$HOME%h\\'], tmp_path / "env", hours)
    for name, text in unit.files().items():
        (tmp_path / name).write_text(text)

    ended = subprocess.run(
        ["systemd-analyze", "--user", "--man=no", "verify", *(str(tmp_path / name) for name in unit.files())],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not on this machine")
@pytest.mark.parametrize("calendar", ["*:0/5", "*-*-* 07:00:00"])
def test_the_calendars_are_ones_that_systemd_reads(calendar: str) -> None:
    subprocess.run(["systemd-analyze", "calendar", calendar], check=True, capture_output=True, timeout=60)


def test_a_token_with_quotes_is_read_back_as_it_was() -> None:
    assert environment_file({"A": 'b"c\\d'}) == 'A="b\\"c\\\\d"\n'


def test_the_command_of_the_unit_is_a_worker_that_does_tasks_and_drains(
    tmp_path: Path, facade: Any, token: str, eventually: Any
) -> None:
    task_id = facade.submit("чайник")
    given = ["install-service", "--api", facade.url, "--token", token, "--no-start", "--worker-id", "home 1"]
    ended = CliRunner().invoke(main, given, env={"HOME": str(tmp_path), "XDG_CONFIG_HOME": ""})
    assert ended.exit_code == 0, ended.output
    unit = (tmp_path / ".config/systemd/user/gifty-worker.service").read_text()
    [command] = re.findall(r"^ExecStart=(.*)$", unit, re.M)
    variables = (tmp_path / ".config/gifty-worker/gifty-worker.env").read_text()
    environ = dict(shlex.split(line)[0].split("=", 1) for line in variables.splitlines())

    # As systemd reads it: quoted words, and %% for %.
    worker = subprocess.Popen(
        [word.replace("%%", "%") for word in shlex.split(command)],
        env={**os.environ, **environ},
        stderr=subprocess.DEVNULL,
    )
    try:
        eventually(lambda: facade.tasks[task_id]["status"] == "completed")
    finally:
        worker.terminate()

    assert worker.wait(60) == 0
    assert facade.made("/tasks")[0]["worker_id"] == ["home 1"]


def test_the_recipe_for_windows_is_a_task_that_windows_would_read() -> None:
    kit = Path(__file__).parents[3] / "workers" / "home"
    space = {"t": "http://schemas.microsoft.com/windows/2004/02/mit/task"}
    task = ElementTree.parse(kit / "gifty-worker.xml").getroot()

    assert task.findtext(".//t:RestartOnFailure/t:Interval", namespaces=space) == "PT1M"
    assert task.findtext(".//t:MultipleInstancesPolicy", namespaces=space) == "IgnoreNew"
    assert (kit / "gifty-worker.cmd").name in task.findtext(".//t:Arguments", "", space)
    lines = (kit / "gifty-worker.cmd").read_bytes().decode("ascii").split("\r\n")
    [command] = [line for line in lines if "gifty-worker.exe" in line]
    known = {option for parameter in main.params for option in parameter.opts}
    assert set(re.findall(r"--[a-z-]+", command)) <= known


@pytest.mark.parametrize(
    ("arguments", "enabled"),
    [
        ((), "gifty-worker.service"),
        (("--hours", "22:00-07:00"), "gifty-worker.timer gifty-worker-rest.timer"),
    ],
)
def test_the_service_is_enabled_and_started_and_an_older_one_restarted(
    tmp_path: Path, arguments: tuple[str, ...], enabled: str
) -> None:
    called = tmp_path / "called"
    systemctl = tmp_path / "bin" / "systemctl"
    systemctl.parent.mkdir()
    systemctl.write_text(f'#!/bin/sh\necho "$@" >> {called}\n')
    systemctl.chmod(0o755)
    given = ["install-service", "--api", "https://compute.example.com", "--token", TOKEN, *arguments]
    environ = {
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": "",
        "PATH": f"{systemctl.parent}:{os.environ['PATH']}",
    }

    ended = CliRunner().invoke(main, given, env=environ)

    assert ended.exit_code == 0, ended.output
    assert called.read_text().splitlines() == [
        "--user daemon-reload",
        f"--user enable {enabled}",
        "--user try-restart gifty-worker.service",
        f"--user start {enabled}",
    ]


def test_a_machine_without_systemd_is_told_so_and_has_its_files(tmp_path: Path) -> None:
    given = ["install-service", "--api", "https://compute.example.com", "--token", TOKEN]

    ended = CliRunner().invoke(main, given, env={"HOME": str(tmp_path), "XDG_CONFIG_HOME": "", "PATH": ""})

    assert ended.exit_code == 1
    assert "no systemd; the files are written" in ended.output
    assert (tmp_path / ".config/systemd/user/gifty-worker.service").exists()
