"""The operator's two commands at the providers, as a person runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.fakes.fault import Fault
from tests.fakes.server import FakeProviders

# The fake of a language model cannot classify and score.
LOGIC = """
llm: {default_provider: groq, embedding_provider: openrouter}
classify: {providers: [intelligence_api]}
score: {providers: [intelligence_api]}
"""
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def fake() -> Iterator[FakeProviders]:
    with FakeProviders() as server:
        yield server


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """`gifty-compute …` with these variables beside a logic.yaml."""
    file = tmp_path / "logic.yaml"
    file.write_text(LOGIC)
    keep = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}

    def run(*arguments: str, env: dict[str, str], columns: str = "200") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "gifty_compute.commands", *arguments],
            cwd=ROOT,
            env={
                **keep,
                "LOGIC_CONFIG_PATH": str(file),
                **({"COLUMNS": columns} if columns else {}),
                **env,
            },
            capture_output=True,
            text=True,
            timeout=100,
        )

    return run


def test_the_doctor_asks_every_provider_that_has_a_key_and_shows_a_table(
    run: Run, fake: FakeProviders
) -> None:
    ended = run("doctor", "--live", env=fake.environ("openrouter", "groq"))

    assert ended.returncode == 0, ended.stdout + ended.stderr
    asked = [line for line in ended.stdout.splitlines() if " ok " in line]
    assert [("groq" in row, "openrouter" in row) for row in asked] == [(False, True), (True, False)]
    assert "intelligence_api: not asked, INTELLIGENCE_API_TOKEN is not set" in ended.stdout
    assert "good-key" not in ended.stdout + ended.stderr
    assert fake.calls("groq")
    assert fake.calls("openrouter")


def test_the_doctor_asks_who_has_a_key_and_stands_in_no_route(run: Run, fake: FakeProviders) -> None:
    ended = run("doctor", "--live", env=fake.environ("gemini", "together"))

    asked = [line for line in ended.stdout.splitlines() if " ok " in line]
    assert [("together" in row, "gemini" in row) for row in asked] == [(True, False), (False, True)]
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_the_doctor_names_what_is_missing_beside_the_key(run: Run) -> None:
    ended = run("doctor", env={"RUNPOD_API_KEY": "good-key"})

    assert "runpod: not asked, RUNPOD_ENDPOINT_ID is not set" in ended.stdout


def test_the_doctor_says_what_answers_the_models_of_experiments(run: Run, tmp_path: Path) -> None:
    """F2."""
    experiments = "experiments: {b: {model_fast: gpt-4o-mini, model_smart: claude-new-9}}"
    routes = LOGIC.replace("groq,", "groq, fallbacks: [anthropic],")
    (tmp_path / "logic.yaml").write_text(f"{routes}{experiments}\n")

    said = run("doctor", env={}).stdout

    assert "experiments.b.model_smart: 'claude-new-9' is asked of anthropic\n" in said
    assert "experiments.b.model_fast: 'gpt-4o-mini' is no id of a provider of the route" in said
    assert "it is answered by fast\n" in said


def test_where_there_is_no_terminal_each_finding_is_one_line(run: Run, fake: FakeProviders) -> None:
    """A log or a pipe has no width: a table that is wrapped to 80 columns there cannot be read."""
    fake.fault("groq", Fault.BAD_KEY)
    ended = run("doctor", "--live", env=fake.environ("intelligence_api", "runpod", "groq"), columns="")

    rows = [line for line in ended.stdout.splitlines() if line.startswith("│")]
    assert len(rows) >= 4
    assert all(len(row.split("│")) == 9 and row.split("│")[1].strip() for row in rows)


def test_in_a_narrow_terminal_no_name_is_cut(run: Run, fake: FakeProviders) -> None:
    ended = run("doctor", "--live", env={**fake.environ("intelligence_api"), "COLUMNS": "80"})

    assert "…" not in ended.stdout
    assert "│ intelligence_api │" in ended.stdout


def test_the_doctor_exits_1_and_says_why_when_a_provider_fails(run: Run, fake: FakeProviders) -> None:
    fake.fault("groq", Fault.BAD_KEY)

    ended = run("doctor", "--live", env=fake.environ("openrouter", "groq"))

    assert ended.returncode == 1
    [row] = [line for line in ended.stdout.splitlines() if "groq" in line and "llm" in line]
    assert " ok " not in row
    assert "401" in row or "key" in row


def test_without_keys_nothing_is_asked(run: Run) -> None:
    ended = run("doctor", "--live", env={})

    assert ended.returncode == 0
    assert "groq: not asked, GROQ_API_KEY is not set" in ended.stdout


@pytest.mark.parametrize("how", ["by the file", "by the environment"])
def test_up_refuses_a_route_over_two_spaces_with_the_fixes_before_it_starts_anything(
    run: Run, tmp_path: Path, how: str
) -> None:
    (tmp_path / "logic.yaml").write_text(
        "llm: {embedding_provider: together}" if how == "by the file" else "llm: {}"
    )
    env = {} if how == "by the file" else {"EMBEDDING_MODEL": "multilingual-e5-large-instruct"}

    ended = run("up", "--data-dir", str(tmp_path / "data"), "--port", "0", env=env)

    assert ended.returncode == 1
    assert "To mend it, either name one that does" in ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr
    assert not (tmp_path / "data").exists()


def test_a_recorded_space_is_a_file_that_logic_yaml_can_name(
    run: Run, fake: FakeProviders, tmp_path: Path
) -> None:
    env = fake.environ("openrouter", "groq")

    recorded = run("spaces", "record", "bge-m3", "--provider", "openrouter", env=env)
    (tmp_path / "logic.yaml").write_text(LOGIC + "spaces: {bge-m3: {reference: spaces/bge-m3.json}}\n")
    checked = run("doctor", env=env)

    assert recorded.returncode == 0, recorded.stderr
    assert "vectors of 1024 numbers" in recorded.stdout
    assert (tmp_path / "spaces" / "bge-m3.json").exists()
    assert checked.returncode == 0, checked.stderr


def test_a_space_is_not_recorded_from_who_cannot_answer(
    run: Run, fake: FakeProviders, tmp_path: Path
) -> None:
    fake.fault("openrouter", Fault.ZERO)

    ended = run("spaces", "record", "bge-m3", "--provider", "openrouter", env=fake.environ("openrouter"))

    assert ended.returncode == 1
    assert ended.stderr.endswith("Error: bad_answer: a vector is zero\n")
    assert not (tmp_path / "spaces").exists()


def test_the_doctor_prints_the_providers_own_reason(run: Run, fake: FakeProviders) -> None:
    fake.fault("groq", Fault.BAD_REQUEST)

    ended = run("doctor", "--live", env={**fake.environ("groq"), "COLUMNS": "400"})

    assert ended.returncode == 1
    assert "bad_request: answered 400: some_error: as scripted" in ended.stdout


def test_the_doctor_takes_keys_from_the_file(run: Run, fake: FakeProviders, tmp_path: Path) -> None:
    keys = tmp_path / "keys.env"
    keys.write_text("GROQ_API_KEY=good-key\n")
    wrong = {**fake.environ("groq"), "GROQ_API_KEY": "wrong", "PROVIDER_KEYS_FILE": str(keys)}

    ended = run("doctor", "--live", env=wrong)

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert " ok " in ended.stdout


def test_a_bad_file_of_keys_is_a_sentence_without_a_key(run: Run, tmp_path: Path) -> None:
    keys = tmp_path / "keys.env"
    keys.write_text("GROQ_API_KEY=gsk-canary\ngsk-canary\n")

    ended = run("doctor", env={"PROVIDER_KEYS_FILE": str(keys)})

    assert ended.returncode == 1
    assert "line 2 is not NAME=value" in ended.stderr
    assert "canary" not in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_reason_of_a_recording_that_failed_is_printed(
    run: Run, fake: FakeProviders, tmp_path: Path
) -> None:
    fake.fault("openrouter", Fault.BAD_KEY)
    space = ("spaces", "record", "bge-m3", "--provider", "openrouter", "--output", str(tmp_path / "s.json"))

    ended = run(*space, env=fake.environ("openrouter"))

    assert ended.returncode == 1
    assert "bad_key: answered 401: as scripted" in ended.stderr
