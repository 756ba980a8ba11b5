"""How to run a program that refuses to run as root, when we are root.

No user is added and no directory is opened to others. In a user namespace of its own the program
is another uid to itself and root to the disk. Where namespaces are refused (Docker's default), it
becomes an unprivileged uid that keeps one right of root's, to pass directory permissions: so data
and a checkout below /root stay where they are, 0700, and no copy of the binaries is needed.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from gifty_compute.embedded.errors import EmbeddedError

__all__ = ["Guise", "find_guise"]

_PROBE_LIMIT = 20.0


@dataclass(frozen=True)
class Guise:
    """What goes before a command, and the uid its files need on disk."""

    prefix: tuple[str, ...]
    owner: int

    def own(self, directory: Path) -> None:
        """Give the directory and all below it to the uid, unless it has it."""
        if directory.stat().st_uid == self.owner:
            return
        for path in (directory, *directory.rglob("*")):
            os.chown(path, self.owner, -1, follow_symlinks=False)


def find_guise() -> Guise:
    """Nothing to do for an ordinary user; for root the first way that this kernel lets work."""
    if os.geteuid() != 0:
        return Guise(prefix=(), owner=os.geteuid())
    uid = _unprivileged_uid()
    for guise in (_namespace(uid), _capability(uid)):
        if _works(guise):
            return guise
    raise EmbeddedError(
        "PostgreSQL does not run as root, and neither `unshare --user` nor `setpriv` works here:"
        " run as an ordinary user, or set DATABASE_URL to a server of yours"
    )


def _namespace(uid: int) -> Guise:
    return Guise(prefix=("unshare", "--user", f"--map-user={uid}", "--"), owner=0)


def _capability(uid: int) -> Guise:
    identity = (f"--reuid={uid}", f"--regid={pwd.getpwuid(uid).pw_gid}", "--clear-groups")
    right = ("--inh-caps=+dac_override", "--ambient-caps=+dac_override")
    # Else access(2), by which postgres looks for its own file, leaves the right out of account.
    heeded = "--securebits=+no_setuid_fixup"
    return Guise(prefix=("setpriv", *identity, *right, heeded, "--"), owner=uid)


def _unprivileged_uid() -> int:
    """A uid that has a name: initdb looks its own up."""
    users = {user.pw_name: user.pw_uid for user in pwd.getpwall() if user.pw_uid != 0}
    if not users:
        raise EmbeddedError("PostgreSQL does not run as root, and /etc/passwd knows no other user")
    return users.get("nobody", next(iter(users.values())))


def _works(guise: Guise) -> bool:
    """Whether a command runs under the guise and is no longer root to itself."""
    if shutil.which(guise.prefix[0]) is None:
        return False
    answer = subprocess.run(  # noqa: S603 - our own command
        [*guise.prefix, "id", "-u"], capture_output=True, check=False, timeout=_PROBE_LIMIT
    )
    return answer.returncode == 0 and answer.stdout.strip() != b"0"
