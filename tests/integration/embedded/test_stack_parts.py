"""What `up` decides before it starts anything."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import stat
import sys
from pathlib import Path

import pytest

from gifty_compute.embedded.errors import EmbeddedError
from gifty_compute.embedded.private import read_or_make_secret
from gifty_compute.settings import FACADE_THREADS
from gifty_compute.stack.credentials import Credentials, read_or_make_credentials
from gifty_compute.stack.environment import (
    PROVIDER_KEYS,
    children_environment,
    choose_logic,
    with_keys_file,
)
from gifty_compute.stack.interrupts import Interrupts
from gifty_compute.stack.options import Options
from gifty_compute.stack.ports import choose_addresses
from gifty_compute.stack.programs import Addresses, Program, StopStage, programs

SECRETS = Credentials(
    api_tokens="backend:api-secret",
    internal_api_token="internal-secret",
    ops_tokens="operator:operator:ops-secret",
    callback_secret="whsec_callback-secret",
    flower_basic_auth="operator:flower-secret",
)


def _programs(celery: int = 1, poll: int = 1) -> list[Program]:
    return programs(
        Options(Path("/data"), celery_workers=celery, poll_workers=poll),
        Addresses(port=8000, flower_port=5555),
        beat_schedule=Path("/data/beat"),
        flower_auth=SECRETS.flower_auth,
        internal_token=SECRETS.internal_token,
        facade_threads=str(FACADE_THREADS),
    )


def _environment(environ: dict[str, str]) -> dict[str, str]:
    return children_environment(
        environ,
        options=Options(Path("/data")),
        credentials=SECRETS,
        database_url="postgresql://ours",
        redis_url="unix://ours",
        logic=Path("/checkout/configs/logic.local.yaml"),
    )


def test_the_children_do_not_work_for_another_service_whatever_the_caller_has_set() -> None:
    environment = _environment({"GIFTY_COMPUTE_URL": "https://elsewhere", "GIFTY_WORKER_TOKEN": "gwt_x"})

    assert not {"GIFTY_COMPUTE_URL", "GIFTY_WORKER_TOKEN"} & set(environment)


def test_one_of_everything_is_the_default() -> None:
    assert [program.name for program in _programs()] == ["facade", "flower", "celery-1", "beat", "poll-1"]


def test_without_celery_workers_there_is_no_beat() -> None:
    assert [program.name for program in _programs(celery=0, poll=2)] == [
        "facade",
        "flower",
        "poll-1",
        "poll-2",
    ]


def test_workers_stop_before_what_they_need() -> None:
    stages = {program.name: program.stop_stage for program in _programs()}

    assert stages["celery-1"] == stages["poll-1"] < stages["beat"] < stages["flower"] < stages["facade"]
    assert stages["facade"] < StopStage.SERVERS


def test_no_secret_is_on_a_command_line() -> None:
    commands = " ".join(argument for program in _programs() for argument in program.argv)

    assert "secret" not in commands


def test_every_program_runs_in_this_interpreter_and_listens_on_this_machine_only() -> None:
    assert {program.argv[0] for program in _programs()} == {sys.executable}
    facade, flower = _programs()[:2]
    assert facade.argv[facade.argv.index("--host") + 1] == "127.0.0.1"
    assert "--address=127.0.0.1" in flower.argv


def test_credentials_are_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"

    made = read_or_make_credentials({}, path)

    assert read_or_make_credentials({}, path) == made
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(base64.b64decode(made.callback_secret.removeprefix("whsec_"), validate=True)) == 32


def test_given_credentials_win_and_are_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    given = {"API_TOKENS": "gifty:first,jobs:second", "INTERNAL_API_TOKEN": "shared,older"}

    credentials = read_or_make_credentials(given, path)

    assert (credentials.api_token, credentials.internal_token) == ("first", "shared")
    assert credentials.environment["API_TOKENS"] == "gifty:first,jobs:second"
    assert "first" not in path.read_text()


def test_broken_secrets_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    path.write_text("{")

    with pytest.raises(EmbeddedError, match=r"secrets.json is not JSON .*: mend it, or remove it"):
        read_or_make_credentials({}, path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{}", "has lost api_tokens, internal_api_token"),
        ('{"flower_basic_auth": ""}', "has lost flower_basic_auth"),
        ('{"ops_tokens": "a", "api_tokens": " "}', "has lost api_tokens"),
        ('{"ops_tokens": "a", "ops_tokens": "b"}', "ops_tokens is there twice"),
        ("", "is not JSON"),
    ],
)
def test_a_secrets_file_that_lost_something_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    """K2: an empty secret is no password, and new ones in silence lock every client out."""
    path = tmp_path / "secrets.json"
    path.write_text(text)

    with pytest.raises(EmbeddedError, match=reason):
        read_or_make_credentials({}, path)

    assert path.read_text() == text


@pytest.mark.parametrize("text", ["", "\n"])
def test_an_empty_password_file_is_refused(tmp_path: Path, text: str) -> None:
    """K2: the embedded server would start without a password."""
    path = tmp_path / "password"
    path.write_text(text)

    with pytest.raises(EmbeddedError, match="password is empty: put the password back"):
        read_or_make_secret(path)


def test_kept_secrets_of_an_older_version_are_completed(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    path.write_text(json.dumps({"internal_api_token": "kept"}))

    credentials = read_or_make_credentials({}, path)

    assert credentials.internal_token == "kept"
    assert credentials == read_or_make_credentials({}, path)


def test_children_find_servers_secrets_and_the_callers_environment() -> None:
    environment = _environment({"HOME": "/home/ann", "GROQ_API_KEY": "key"})

    assert environment["DATABASE_URL"] == "postgresql://ours"
    assert environment["REDIS_URL"] == "unix://ours"
    assert environment["LOGIC_CONFIG_PATH"] == "/checkout/configs/logic.local.yaml"
    assert environment["CALLBACK_SECRET"] == "whsec_callback-secret"
    assert (environment["HOME"], environment["GROQ_API_KEY"]) == ("/home/ann", "key")


def test_cores_are_shared_among_the_models() -> None:
    cores = len(os.sched_getaffinity(0))

    assert _environment({})["OMP_NUM_THREADS"] == str(max(1, cores // 3))
    assert _environment({})["OMP_WAIT_POLICY"] == "passive"
    assert _environment({"OMP_NUM_THREADS": "7"})["OMP_NUM_THREADS"] == "7"


def test_without_provider_keys_the_local_logic_is_used_and_said_so() -> None:
    said: list[str] = []

    logic = choose_logic({}, Path("/checkout"), said.append)

    assert logic == Path("/checkout/configs/logic.local.yaml")
    assert said == ["No provider key is set: the local model answers (configs/logic.local.yaml)."]


@pytest.mark.parametrize("key", PROVIDER_KEYS)
def test_with_a_provider_key_the_production_logic_is_used_and_said_so(key: str) -> None:
    said: list[str] = []

    logic = choose_logic({key: "x"}, Path("/checkout"), said.append)

    assert logic == Path("/checkout/configs/logic.yaml")
    assert said == [f"{key} is set: configs/logic.yaml is in force."]


def test_given_logic_is_relative_to_the_caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    logic = choose_logic({"LOGIC_CONFIG_PATH": "my.yaml"}, Path("/checkout"), pytest.fail)

    assert logic == tmp_path / "my.yaml"


def test_free_ports_differ() -> None:
    addresses = choose_addresses(0)

    assert addresses.port != addresses.flower_port
    assert addresses.api_url == f"http://127.0.0.1:{addresses.port}"


def test_taken_port_is_one_sentence_with_the_way_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

        with pytest.raises(EmbeddedError, match=rf"port {port} of 127.0.0.1 cannot be used .* --port 0"):
            choose_addresses(port)


def test_first_interrupt_stops_and_the_second_hastens() -> None:
    with Interrupts() as interrupts:
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupts.stop.wait(10)
        assert not interrupts.hasten.is_set()

        os.kill(os.getpid(), signal.SIGTERM)

        assert interrupts.hasten.wait(10)


def test_handlers_are_restored() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)

    with Interrupts():
        inside = signal.getsignal(signal.SIGTERM)

    assert inside is not signal.SIG_IGN
    assert signal.signal(signal.SIGTERM, before) is signal.SIG_IGN


def test_keys_of_the_data_directory_are_the_childrens(tmp_path: Path) -> None:
    (tmp_path / "keys.env").write_text("GROQ_API_KEY=x\n")

    environ = with_keys_file({"A": "b"}, tmp_path)

    assert environ == {"A": "b", "PROVIDER_KEYS_FILE": str(tmp_path / "keys.env")}
    lines: list[str] = []
    assert choose_logic(environ, Path("/checkout"), lines.append) == Path("/checkout/configs/logic.yaml")
    assert lines == ["GROQ_API_KEY is set: configs/logic.yaml is in force."]


def test_a_named_file_of_keys_wins_and_none_is_none(tmp_path: Path) -> None:
    assert with_keys_file({}, tmp_path) == {}
    (tmp_path / "keys.env").write_text("GROQ_API_KEY=x\n")

    assert with_keys_file({"PROVIDER_KEYS_FILE": "/mine"}, tmp_path) == {"PROVIDER_KEYS_FILE": "/mine"}
