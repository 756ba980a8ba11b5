"""Where operators' commands find the service, and what they say when they do not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gifty_compute.errors import InvalidConfig, Unavailable
from gifty_compute.operators.service import Service, find_service

RUN = {"api_url": "http://127.0.0.1:8000", "ops_token": "of-up"}


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    (tmp_path / "run.json").write_text(json.dumps(RUN))
    return tmp_path


def test_what_is_named_wins(data_dir: Path) -> None:
    found = find_service(data_dir, "https://compute.example.org/", "mine")

    assert (found.url, found.token) == ("https://compute.example.org", "mine")


def test_else_it_is_that_of_the_data_directory(data_dir: Path) -> None:
    found = find_service(data_dir, None, None)

    assert (found.url, found.token) == (RUN["api_url"], RUN["ops_token"])


def test_a_token_of_one_service_is_never_sent_to_another(data_dir: Path) -> None:
    with pytest.raises(InvalidConfig, match="GIFTY_OPS_TOKEN"):
        find_service(data_dir, "https://compute.example.org", None)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"api_url": "http://a"}'])
def test_a_run_file_that_is_none_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)

    with pytest.raises(InvalidConfig, match=r"run\.json"):
        find_service(tmp_path, None, None)


def test_without_either_it_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="set GIFTY_COMPUTE_URL and GIFTY_OPS_TOKEN"):
        find_service(tmp_path, None, None)


def test_the_token_is_not_in_its_repr() -> None:
    assert "secret" not in repr(Service("http://a", "secret"))


def test_a_service_that_is_not_there_is_named() -> None:
    with pytest.raises(Unavailable, match=r"http://127\.0\.0\.1:9 does not answer"):
        Service("http://127.0.0.1:9", "t").get("/ops/circuits")
