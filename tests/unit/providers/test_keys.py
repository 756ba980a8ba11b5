"""A new key needs no restart (friction 4): the file of keys is watched, and a bad one changes nothing."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

import pytest

from gifty_compute.errors import InvalidConfig
from gifty_compute.logic import defaults
from gifty_compute.logic.file import OfferSection
from gifty_compute.logic.logic import Offer
from gifty_compute.logic.reading import BoundedReads
from gifty_compute.providers.access import Access
from gifty_compute.providers.keys import Keys, parse_keys

SECRET = "gsk-canary-0123456789"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "keys.env"
    file.write_text(f"GROQ_API_KEY={SECRET}\n")
    return file


def looked(keys: Keys, times: int = 2) -> Keys:
    for _ in range(times):
        keys.look()
    return keys


def test_the_file_wins_over_the_environment_and_the_rest_stays(path: Path) -> None:
    keys = Keys({"GROQ_API_KEY": "old", "OPENROUTER_API_KEY": "other"}, path)

    assert keys.current["GROQ_API_KEY"] == SECRET
    assert keys.current["OPENROUTER_API_KEY"] == "other"


def test_a_new_key_is_taken_when_it_stays_for_a_look(path: Path) -> None:
    keys = Keys({}, path)
    version = keys.version
    path.write_text("GROQ_API_KEY=new\n")

    looked(keys, 1)
    assert keys.current["GROQ_API_KEY"] == SECRET
    looked(keys, 1)

    assert keys.current["GROQ_API_KEY"] == "new"
    assert keys.version != version
    assert keys.error is None


def test_a_provider_can_be_asked_with_the_new_key_at_once(path: Path) -> None:
    keys = Keys({}, path)
    access = Access(keys)
    section = defaults.PROVIDERS["groq"]
    offer = Offer("groq", section, "llm", "m", OfferSection(), model_name="m")
    before = access.version

    path.write_text("GROQ_API_KEY='one,two'\n")
    looked(keys)

    assert [site.key for site in access.sites(offer)] == ["one", "two"]
    assert access.version != before


BAD = {
    "empty": "",
    "comments": "# moved\n\n",
    "cut off": "GROQ_API_KEY=gsk-can",
    "no form": f"GROQ_API_KEY={SECRET}\n{SECRET}\n",
    "twice": f"A={SECRET}\nA={SECRET}\n",
    "half a quote": f'A="{SECRET}\n',
    "too long": f"A={SECRET}\n" * 5000,
}


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_a_bad_file_changes_nothing_and_is_said_once_without_a_key(
    path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    keys = Keys({}, path)
    version = keys.version
    path.write_text(text)

    with caplog.at_level(logging.INFO):
        looked(keys, 5)

    assert (keys.current["GROQ_API_KEY"], keys.version) == (SECRET, version)
    assert keys.error is not None
    assert str(path) in keys.error
    assert len(caplog.records) == 1
    assert "canary" not in caplog.text + keys.error
    assert "gsk" not in caplog.text + keys.error


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_with_a_bad_file_nothing_starts(path: Path, text: str) -> None:
    path.write_text(text)

    with pytest.raises(InvalidConfig) as caught:
        Keys({}, path)

    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("kind", ["gone", "folder", "fifo", "bytes"])
def test_what_is_no_file_is_never_waited_for(path: Path, kind: str) -> None:
    keys = Keys({}, path)
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "bytes":
        path.write_bytes(b"A=\xff\xfe\n")

    looked(keys)

    assert keys.current["GROQ_API_KEY"] == SECRET
    assert keys.error is not None


def test_a_mount_that_hangs_is_said_and_the_keys_in_force_stay(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K2: the watch was over with the first read that did not return."""
    keys, release = Keys({}, path, reads=BoundedReads(0.05)), threading.Event()
    monkeypatch.setattr("gifty_compute.providers.keys.read_plain_file", lambda *_: release.wait(60))

    looked(keys)
    release.set()

    assert keys.current["GROQ_API_KEY"] == SECRET
    assert "cannot be read within 0.05 s" in str(keys.error)


def test_a_good_file_after_a_bad_one_is_taken_and_the_error_is_over(path: Path) -> None:
    keys = Keys({}, path)
    path.write_text("")
    looked(keys)
    path.write_text("GROQ_API_KEY=new\n")

    looked(keys)

    assert (keys.current["GROQ_API_KEY"], keys.error) == ("new", None)


def test_the_same_file_again_ends_the_error(path: Path) -> None:
    keys = Keys({}, path)
    text = path.read_text()
    path.write_text("")
    looked(keys)
    path.write_text(text)

    looked(keys, 1)

    assert keys.error is None


def test_the_log_names_what_changed_and_no_key(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keys = Keys({}, path)
    path.write_text(f"OPENROUTER_API_KEY={SECRET}\n")

    with caplog.at_level(logging.INFO):
        looked(keys)

    [record] = caplog.records
    assert vars(record)["changed"] == ["GROQ_API_KEY", "OPENROUTER_API_KEY"]
    assert vars(record)["gone"] == ["GROQ_API_KEY"]
    assert "canary" not in str(vars(record))


def test_forms_that_editors_and_shells_write_are_read() -> None:
    text = "\n# a comment\r\nexport A = 'x y'\r\nB=\"q=#1\"\n  C=\nD=a#b\n"

    assert parse_keys(text) == {"A": "x y", "B": "q=#1", "C": "", "D": "a#b"}


def test_nothing_of_a_key_is_in_the_repr_of_what_holds_it(path: Path) -> None:
    keys = Keys({}, path)

    assert SECRET not in repr(keys) + repr(Access(keys)) + keys.version
