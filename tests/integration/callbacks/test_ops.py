"""What operators see of callbacks and do with them: over HTTP, by command, in metrics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner, Result
from flask.testing import FlaskClient

from gifty_compute.cli import main
from gifty_compute.core import Core
from gifty_compute.wire.task import Task
from tests.integration.callbacks.conftest import a_day_passes, delivery, leased, stored, until
from tests.integration.conftest import API, OPS, WORKER

Ends = Callable[..., Task]
VIEWER = {"Authorization": "Bearer viewer-token"}
NOBODY = "http://127.0.0.1:1/hook?key=SECRET"


def die(core: Core) -> str:
    """Gives up the one callback that is due; its id."""
    a_day_passes(core)
    callback = leased(core)
    assert delivery(core).deliver(callback) == "dead"
    return callback.id


def test_the_dead_are_shown_with_the_reason_and_without_the_query(
    client: FlaskClient, core: Core, ended: Ends
) -> None:
    task = ended(NOBODY)
    die(core)

    page = client.get("/ops/callbacks", headers=VIEWER).json

    [shown] = page["callbacks"]
    assert shown["task_id"] == str(task.id)
    assert shown["url"] == "http://127.0.0.1:1/hook?…"
    assert shown["error"] == "127.0.0.1:1 cannot be reached"
    assert (shown["tries"], shown["due_at"], shown["delivered_at"]) == (1, None, None)
    assert shown["dead_at"].endswith("Z")
    assert page["next_cursor"] is None


def test_pages_go_by_state_and_by_task(client: FlaskClient, ended: Ends) -> None:
    tasks = [ended(NOBODY) for _ in range(3)]

    first = client.get("/ops/callbacks?state=due&limit=2", headers=OPS).json
    rest = client.get(f"/ops/callbacks?state=due&limit=2&cursor={first['next_cursor']}", headers=OPS).json
    of_one = client.get(f"/ops/callbacks?task_id={tasks[0].id}", headers=OPS).json

    assert [one["task_id"] for one in first["callbacks"] + rest["callbacks"]] == [
        str(task.id) for task in tasks[::-1]
    ]
    assert rest["next_cursor"] is None
    assert [one["task_id"] for one in of_one["callbacks"]] == [str(tasks[0].id)]
    assert client.get("/ops/callbacks", headers=OPS).json["callbacks"] == []


def test_an_operator_sends_a_dead_one_again(client: FlaskClient, core: Core, ended: Ends) -> None:
    ended(NOBODY)
    dead = die(core)

    answer = client.post(f"/ops/callbacks/{dead}/resend", headers=OPS)

    assert answer.status_code == 200
    assert (answer.json["dead_at"], answer.json["error"], answer.json["tries"]) == (None, None, 0)
    assert leased(core).id == dead


@pytest.mark.parametrize("headers", [VIEWER, API, WORKER, {}], ids=["viewer", "client", "worker", "nobody"])
def test_nobody_else_may(client: FlaskClient, core: Core, ended: Ends, headers: dict[str, str]) -> None:
    ended(NOBODY)
    dead = die(core)

    assert client.post(f"/ops/callbacks/{dead}/resend", headers=headers).status_code == 401
    assert stored(core).dead_at is not None


@pytest.mark.parametrize("headers", [API, WORKER, {}], ids=["client", "worker", "nobody"])
def test_the_list_is_for_operators_alone(client: FlaskClient, headers: dict[str, str]) -> None:
    assert client.get("/ops/callbacks", headers=headers).status_code == 401


@pytest.mark.parametrize("callback_id", ["x", "a%00b", f"{'0' * 36}.1.task.completed", "%ff"])
def test_what_is_not_there_is_404(client: FlaskClient, callback_id: str) -> None:
    assert client.post(f"/ops/callbacks/{callback_id}/resend", headers=OPS).status_code == 404


@pytest.mark.parametrize("query", ["state=x", "limit=0", "task_id=7", "cursor=%00", "a=b"])
def test_a_bad_query_is_422(client: FlaskClient, query: str) -> None:
    assert client.get(f"/ops/callbacks?{query}", headers=OPS).status_code == 422


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://10.0.0.1/", "callback_refused"),
        ("https://shop.example/", "callback_refused"),
        ("https://user:word@127.0.0.1/", "callback_refused"),
        ("x" * 3000, "invalid_value"),
    ],
)
def test_a_callback_url_that_may_not_be_called_is_422_at_submit_and_nothing_is_stored(
    client: FlaskClient, url: str, code: str
) -> None:
    body = {"task_type": "embedding", "payload": {"texts": ["a"]}, "callback_url": url}

    answer = client.post("/v1/tasks", json=body, headers=API)

    assert (answer.status_code, answer.json["error"]["code"]) == (422, code)
    assert answer.json["error"]["param"] == "callback_url"
    assert client.get("/v1/tasks", headers=API).json["tasks"] == []


def test_a_path_of_high_priority_takes_one_with_priority_low(client: FlaskClient) -> None:
    body: dict[str, Any] = {"input": "a", "priority": "low", "callback_url": "http://127.0.0.1:9/"}

    taken = client.post("/v1/embeddings", json=body, headers=API)
    refused = client.post("/v1/embeddings", json={**body, "callback_url": "http://[::1]/"}, headers=API)

    assert (taken.status_code, refused.status_code) == (202, 422)


def test_metrics_say_how_many_wait_and_how_many_are_dead(
    client: FlaskClient, core: Core, ended: Ends
) -> None:
    ended(NOBODY)
    die(core)
    ended(NOBODY)

    core.callbacks.start()

    expected = (
        'gifty_callback_tries_total{outcome="failed"}',
        "gifty_callbacks_dead 1.0",
        "gifty_callbacks_due 1.0",
    )
    until(lambda: all(one in metrics(client) for one in expected))
    assert "127.0.0.1" not in metrics(client)


def metrics(client: FlaskClient) -> str:
    return client.get("/metrics", headers=OPS).text


# -- by command ----------------------------------------------------------------------------------------------


def command(core: Core, *arguments: str) -> Result:
    """`gifty-compute callbacks …` with this core's database."""
    dsn = core.settings.database_url.get_secret_value()
    return CliRunner().invoke(main, ["callbacks", *arguments], env={"DATABASE_URL": dsn, "COLUMNS": "250"})


def test_the_command_lists_and_sends_again(core: Core, ended: Ends) -> None:
    ended(NOBODY)
    dead = die(core)

    listed = command(core, "list")
    sent = command(core, "resend", dead)
    empty = command(core, "list")

    assert dead in listed.stdout
    assert "cannot be reached" in listed.stdout
    assert "SECRET" not in listed.stdout
    assert sent.stdout == f"{dead} is due\n"
    assert empty.stdout == "none\n"
    assert leased(core).id == dead


def test_the_command_sends_all_dead_ones_again_or_those_of_one_receiver(core: Core, ended: Ends) -> None:
    ended(NOBODY)
    die(core)
    ended("http://127.0.0.1:2/")
    die(core)

    of_one = command(core, "resend", "--all-dead", "--receiver", "127.0.0.1:2")
    rest = command(core, "resend", "--all-dead")

    assert (of_one.stdout, rest.stdout) == ("1 are due\n", "1 are due\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["resend"], "name callbacks by their ids"),
        (["resend", "x", "--all-dead"], "name callbacks by their ids"),
        (["resend", "x", "--receiver", "y"], "--receiver goes with --all-dead"),
        (["resend", "x"], "there is no callback x"),
    ],
)
def test_the_command_says_what_is_wrong(core: Core, arguments: list[str], said: str) -> None:
    ended = command(core, *arguments)

    assert ended.exit_code != 0
    assert said in ended.output
    assert "Traceback" not in ended.output


def test_the_command_shows_an_address_as_it_is(core: Core, ended: Ends) -> None:
    """Brackets are markup to who prints tables; a closing one without its opening ended the command."""
    ended("http://127.0.0.1:1/[/b]/[red]/:bomb:")

    told = command(core, "list", "--state", "due")

    assert told.exit_code == 0, told.output
    assert "http://127.0.0.1:1/[/b]/[red]/:bomb:" in told.output
