"""What the command line refuses before it touches the network."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from gifty_compute.poll.cli import main

GOOD = {"GIFTY_COMPUTE_URL": "http://127.0.0.1:9", "GIFTY_WORKER_TOKEN": "w0rker-token"}


@pytest.mark.parametrize(
    ("arguments", "environment", "says"),
    [
        ([], {"GIFTY_COMPUTE_URL": "ftp://x"}, "'ftp://x' is not an address like https://"),
        ([], {"GIFTY_COMPUTE_URL": "compute.example"}, "is not an address like https://"),
        ([], {"GIFTY_COMPUTE_URL": "http://h:99999"}, "is not an address like https://"),
        ([], {"GIFTY_COMPUTE_URL": "https://me:pw@h"}, "must not hold a user or password"),
        ([], {"GIFTY_COMPUTE_URL": "https://h/?a=1"}, "must end with its path"),
        ([], {"GIFTY_COMPUTE_URL": ""}, "Missing option '--api'"),
        ([], {"GIFTY_WORKER_TOKEN": ""}, "Missing option '--token'"),
        ([], {"GIFTY_WORKER_TOKEN": "два слова"}, "the token must be printable ASCII"),
        (["--model", "nope"], {}, "there is no model 'nope'; known: "),
        (["--worker-id", "a" * 201], {}, "must be 1 to 200 printable characters"),
        (["--worker-id", "a\nb"], {}, "must be 1 to 200 printable characters"),
        (["--limit", "101"], {}, "--limit"),
    ],
)
def test_what_cannot_work_is_refused_in_a_sentence_with_exit_2(
    arguments: list[str], environment: dict[str, str], says: str
) -> None:
    answer = CliRunner().invoke(main, arguments, env=GOOD | environment)

    assert answer.exit_code == 2
    assert says in answer.output


def test_a_refused_token_is_not_shown() -> None:
    answer = CliRunner().invoke(main, ["--token", "geheim niß"], env=GOOD)

    assert answer.exit_code == 2
    assert "geheim" not in answer.output


def test_the_help_sends_the_token_to_the_environment() -> None:
    answer = CliRunner().invoke(main, ["--help"])

    assert "Better in the environment" in answer.output
    assert "GIFTY_WORKER_TOKEN" in answer.output
