"""The systemd units of a worker at home, as text: one that works always, or only at certain hours."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gifty_compute.errors import InvalidConfig

__all__ = ["Hours", "Unit", "environment_file"]

# Above one batch on a slow machine, and what it takes to report it.
_STOP_SECONDS = 180
_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")
# What systemd reads in a quoted word: its own escapes, then specifiers, then variables.
_MEANING = {"\\": "\\\\", '"': '\\"', "%": "%%", "$": "$$", "\n": "\\n"}


@dataclass(frozen=True)
class Hours:
    """When the machine may work, on its own clock; across midnight where the end comes first."""

    begin: str
    end: str

    @classmethod
    def read(cls, text: str) -> Hours:
        """
        Raises InvalidConfig.

        >>> Hours.read("22:00-07:30")
        Hours(begin='22:00', end='07:30')
        """
        found = _HOURS.fullmatch(text)
        if found is None or found[0][:5] == found[0][6:]:
            raise InvalidConfig(f"--hours {text[:20]!r} must be like 22:00-07:00")
        return cls(found[0][:5], found[0][6:])

    @property
    def condition(self) -> str:
        """What a shell says is true within them.

        >>> Hours("22:00", "07:30").condition
        'test "$now" -ge 2200 || test "$now" -lt 0730'
        """
        begin, end = self.begin.replace(":", ""), self.end.replace(":", "")
        either = "||" if begin > end else "&&"
        return f'test "$now" -ge {begin} {either} test "$now" -lt {end}'


@dataclass(frozen=True)
class Unit:
    """A worker under systemd's user manager. `command` is the worker's program with its arguments."""

    name: str
    command: Sequence[str]
    environment: Path
    hours: Hours | None = None

    def files(self) -> dict[str, str]:
        """Name and text of each unit."""
        found = {f"{self.name}.service": self._service()}
        if self.hours is not None:
            found[f"{self.name}.timer"] = _timer(f"{self.name} at its hours", "*:0/5", self.name)
            found[f"{self.name}-rest.service"] = _REST.format(name=self.name)
            end = f"*-*-* {self.hours.end}:00"
            found[f"{self.name}-rest.timer"] = _timer(f"{self.name} rests", end, f"{self.name}-rest")
        return found

    @property
    def enabled(self) -> list[str]:
        """What is to be enabled: the worker, or the timers that begin and end its hours."""
        return (
            [f"{self.name}.service"]
            if self.hours is None
            else [f"{self.name}.timer", f"{self.name}-rest.timer"]
        )

    def _service(self) -> str:
        condition = "" if self.hours is None else _only_at(self.hours)
        install = "\n[Install]\nWantedBy=default.target\n" if self.hours is None else ""
        return _SERVICE.format(
            environment=_path(self.environment),
            command=" ".join(_quoted(word) for word in self.command),
            condition=condition,
            stop_seconds=_STOP_SECONDS,
            install=install,
        )


def environment_file(variables: dict[str, str]) -> str:
    """What EnvironmentFile= reads these values from."""
    lines = []
    for name, value in variables.items():
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        lines.append(f'{name}="{escaped}"\n')
    return "".join(lines)


def _only_at(hours: Hours) -> str:
    # A unit whose condition is false is skipped, and not failed.
    script = f"now=$(date +%H%M); {hours.condition}"
    return f"ExecCondition=/bin/sh -c {_quoted(script)}\n"


def _quoted(word: str) -> str:
    return '"' + "".join(_MEANING.get(character, character) for character in word) + '"'


def _path(path: Path) -> str:
    return str(path).replace("%", "%%")


def _timer(description: str, calendar: str, unit: str) -> str:
    return _TIMER.format(description=description, calendar=calendar, unit=unit)


_SERVICE = """\
[Unit]
Description=gifty-compute worker
StartLimitIntervalSec=0

[Service]
Type=exec
EnvironmentFile={environment}
{condition}ExecStart={command}
Restart=on-failure
RestartSec=10
# SIGTERM drains: the tasks in hand are finished, the others go back.
KillSignal=SIGTERM
TimeoutStopSec={stop_seconds}
Nice=10
NoNewPrivileges=yes
{install}"""

_TIMER = """\
[Unit]
Description={description}

[Timer]
OnCalendar={calendar}
AccuracySec=1s
Unit={unit}.service

[Install]
WantedBy=timers.target
"""

_REST = """\
[Unit]
Description=Ends the hours of {name}

[Service]
Type=oneshot
ExecStart=/bin/systemctl --user stop {name}.service
"""
