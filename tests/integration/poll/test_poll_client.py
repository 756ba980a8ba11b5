"""PollClient against a facade on a real socket: what it sends, and what it makes of every kind of answer."""

from __future__ import annotations

import socket
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import orjson
import pytest

from gifty_compute import errors
from gifty_compute.clock import SystemClock
from gifty_compute.poll.client import PollClient
from gifty_compute.poll.refusals import TokenRefused
from gifty_compute.wire import vectors
from gifty_compute.wire.task import Held, Holder, Outcome, Task, Want

HOLDER = Holder(worker_id="kaggle-1", session="s-1", credential="nobody reads this")
WANT = Want(task_types=("embedding", "rerank"), models=("multilingual-e5-small",), limit=4)
ROWS = np.eye(2, 3, dtype=np.float32)
OF_ANOTHER = Outcome(id=uuid4(), attempt=1, status="completed", result={"embeddings": ROWS})


@pytest.fixture
def client(facade: Any, token: str) -> PollClient:
    return PollClient(facade.url + "/", token, timeout=(2, 2))


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Accepts connections in the kernel's queue, and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def claimed_task(client: PollClient) -> Task:
    [task] = client.claim(HOLDER, WANT).tasks
    return task


def completed(task: Task, **result: Any) -> Outcome:
    return Outcome(
        id=task.id, attempt=task.attempt, status="completed", result=result or {"embeddings": ROWS}
    )


def told(client: PollClient, outcome: Outcome) -> errors.GiftyComputeError | None:
    """Why the outcome was refused, reported alone."""
    [error] = client.report(HOLDER, [outcome])
    return error


def test_a_claim_says_what_it_wants_and_reads_what_it_got(facade: Any, client: PollClient) -> None:
    task_id, named = facade.submit("удочка"), uuid4()

    claimed = client.claim(HOLDER, WANT.model_copy(update={"ids": (named,), "lease_seconds": 120}))

    [(path, query, _, _)] = facade.calls
    assert path == "/internal/workers/tasks"
    assert query.pop("claim_id")
    assert query == {
        "worker_id": ["kaggle-1"],
        "session": ["s-1"],
        "limit": ["4"],
        "task_type": ["embedding", "rerank"],
        "model": ["multilingual-e5-small"],
        "id": [str(named)],
        "lease": ["120"],
    }
    assert [str(task.id) for task in claimed.tasks] == [task_id]
    assert (claimed.tasks[0].attempt, claimed.lease_seconds) == (1, 90.0)


def test_each_claim_has_an_id_of_its_own(facade: Any, client: PollClient) -> None:
    client.claim(HOLDER, WANT)
    client.claim(HOLDER, WANT)

    first, second = (query["claim_id"] for query in facade.made("/tasks"))
    assert first != second


def test_a_claim_whose_answer_was_lost_is_repeated_under_its_id_and_gets_the_same_tasks(
    facade: Any, fault: Any, client: PollClient
) -> None:
    lost, _ = facade.submit("удочка"), facade.submit("чайник")
    facade.faults.append(fault("/tasks"))
    want = WANT.model_copy(update={"limit": 1})

    with pytest.raises(errors.Unavailable):
        client.claim(HOLDER, want)
    replayed = client.claim(HOLDER, want)
    client.claim(HOLDER, want)

    first, second, third = (query["claim_id"] for query in facade.made("/tasks"))
    assert first == second != third
    assert [(str(task.id), task.attempt) for task in replayed.tasks] == [(lost, 1)]


def test_a_claim_id_that_the_caller_chose_is_sent_as_it_is(facade: Any, client: PollClient) -> None:
    chosen = uuid4()

    client.claim(HOLDER, WANT.model_copy(update={"claim_id": chosen}))

    assert facade.made("/tasks")[0]["claim_id"] == [str(chosen)]


def test_the_token_is_sent_although_netrc_knows_the_host(
    facade: Any, client: PollClient, token: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login somebody password else")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))

    client.claim(HOLDER, WANT)

    [call] = facade.calls
    assert call.headers["Authorization"] == f"Bearer {token}"
    assert "nobody reads this" not in str(facade.calls)


def test_vectors_travel_in_the_binary_form(facade: Any, client: PollClient) -> None:
    facade.submit("удочка", "чайник")
    task = claimed_task(client)

    refused = told(client, completed(task, embeddings=ROWS, dim=3))

    [body] = facade.made("/results")
    outcome = {
        "id": str(task.id),
        "attempt": 1,
        "status": "completed",
        "result": {"embeddings": vectors.encode(ROWS), "dim": 3},
    }
    assert body == {"worker_id": "kaggle-1", "session": "s-1", "results": [outcome]}
    assert refused is None
    assert facade.statuses() == ["completed"]


def test_vectors_of_another_float_are_sent_as_float32(facade: Any, client: PollClient) -> None:
    facade.submit("удочка")

    told(client, completed(claimed_task(client), embeddings=ROWS.astype(">f8")))

    [body] = facade.made("/results")
    assert body["results"][0]["result"]["embeddings"] == vectors.encode(ROWS)


def test_null_inside_a_result_stays_null(facade: Any, client: PollClient) -> None:
    facade.submit("удочка")
    mapping = {"external_name": "Рыбалка", "internal_category_id": None, "confidence": 0.1}

    told(client, completed(claimed_task(client), mappings=[mapping]))

    assert facade.made("/results")[0]["results"][0]["result"] == {"mappings": [mapping]}


@pytest.mark.parametrize("result", [{"scores": {1.0}}, {"a": "\ud800"}, {"embeddings": np.array(["a"])}])
def test_a_result_that_is_not_json_is_invalid_before_it_is_sent(
    facade: Any, client: PollClient, result: dict[str, Any]
) -> None:
    facade.submit("удочка")
    task = claimed_task(client)

    refused = told(client, completed(task, **result))

    assert isinstance(refused, errors.InvalidResult)
    assert facade.made("/results") == []


def test_a_result_whose_answer_was_lost_may_be_sent_again(
    facade: Any, fault: Any, client: PollClient
) -> None:
    facade.submit("удочка")
    task = claimed_task(client)
    facade.faults.append(fault("/results"))

    with pytest.raises(errors.Unavailable):
        client.report(HOLDER, [completed(task)])
    refused = told(client, completed(task))

    assert refused is None
    assert facade.statuses() == ["completed"]
    assert len(facade.made("/results")) == 2


def test_many_results_go_in_one_call_and_each_gets_its_own_verdict(facade: Any, client: PollClient) -> None:
    for words in ("удочка", "чайник", "самовар"):
        facade.submit(words)
    good, lost, bad = client.claim(HOLDER, WANT).tasks
    lost = lost.model_copy(update={"attempt": 7})

    refused = client.report(HOLDER, [completed(good), completed(lost), completed(bad, scores={1.0})])

    assert [type(error) for error in refused] == [type(None), errors.LeaseLost, errors.InvalidResult]
    [body] = facade.made("/results")
    assert body == {
        "worker_id": "kaggle-1",
        "session": "s-1",
        "results": [
            {
                "id": str(task.id),
                "attempt": task.attempt,
                "status": "completed",
                "result": {"embeddings": vectors.encode(ROWS)},
            }
            for task in (good, lost)
        ],
    }


def test_many_outcomes_may_be_failures_too(facade: Any, client: PollClient) -> None:
    facade.submit("удочка")
    facade.submit("чайник")
    first, second = client.claim(HOLDER, WANT).tasks

    refused = client.report(
        HOLDER, [completed(first), Outcome(id=second.id, attempt=1, status="failed", error="oom")]
    )

    assert refused == [None, None]
    assert facade.statuses() == ["completed", "failed"]
    assert client.report(HOLDER, []) == []


def test_results_that_are_too_large_for_one_call_are_sent_in_several(
    facade: Any, fault: Any, client: PollClient
) -> None:
    for n in range(4):
        facade.submit(str(n))
    tasks = client.claim(HOLDER, WANT).tasks
    facade.faults += [fault("/results", 413, "too_large") for _ in range(3)]

    refused = client.report(HOLDER, [completed(task) for task in tasks])

    assert [len(body["results"]) for body in facade.made("/results")] == [4, 2, 1, 1, 2]
    assert [type(error) for error in refused] == [errors.TooLarge, type(None), type(None), type(None)]


def test_another_number_of_verdicts_is_no_answer(facade: Any, fault: Any, client: PollClient) -> None:
    facade.submit("удочка")
    task = claimed_task(client)
    facade.faults.append(fault("/results", 200, body=b'{"verdicts": []}'))

    with pytest.raises(errors.Unavailable, match="1 outcomes were answered with 0 verdicts"):
        client.report(HOLDER, [completed(task)])


def test_a_claim_may_ask_for_spaces_tokens_and_time(facade: Any, client: PollClient) -> None:
    more = {"spaces": ("bge-m3", "e5"), "max_tokens": 16384, "wait_seconds": 2.5}

    client.claim(HOLDER, WANT.model_copy(update=more))

    [query] = facade.made("/tasks")
    assert (query["space"], query["max_tokens"], query["wait"]) == (["bge-m3", "e5"], ["16384"], ["2.5"])


def test_a_proxy_of_the_environment_is_used_at_each_call(
    facade: Any, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.setenv("HTTP_PROXY", facade.url)
    client = PollClient("http://compute.example", token)

    client.claim(HOLDER, WANT)
    client.extend(HOLDER, [])

    assert [call.path for call in facade.calls] == [
        f"http://compute.example/internal/workers{path}" for path in ("/tasks", "/heartbeat")
    ]


@pytest.mark.timeout(20)
def test_a_claim_that_waits_is_given_the_time_for_it(silent_port: int, token: str) -> None:
    client, clock = PollClient(f"http://127.0.0.1:{silent_port}", token, timeout=(1, 0.1)), SystemClock()
    began = clock.monotonic()

    with pytest.raises(errors.Unavailable, match="timed out"):
        client.claim(HOLDER, WANT.model_copy(update={"wait_seconds": 1}))

    assert clock.monotonic() - began >= 1


def test_a_heartbeat_says_how_far_the_work_is_and_that_it_names_all(facade: Any, client: PollClient) -> None:
    facade.submit("удочка")
    task = claimed_task(client)

    client.extend(HOLDER, [Held(id=task.id, attempt=1, progress=0.25)], exhaustive=True)

    [body] = facade.made("/heartbeat")
    assert body["exhaustive"] is True
    assert body["tasks"] == [{"id": str(task.id), "attempt": 1, "progress": 0.25}]


def test_a_failure_carries_its_reason_and_whether_to_try_again(facade: Any, client: PollClient) -> None:
    facade.submit("удочка")
    task = claimed_task(client)

    refused = told(client, Outcome(id=task.id, attempt=1, status="failed", error="oom", retryable=False))

    [body] = facade.made("/results")
    assert body["results"] == [
        {"id": str(task.id), "attempt": 1, "status": "failed", "error": "oom", "retryable": False}
    ]
    assert refused is None


def test_a_heartbeat_learns_what_is_lost(facade: Any, client: PollClient) -> None:
    facade.submit("удочка")
    facade.submit("чайник")
    kept, lost = client.claim(HOLDER, WANT).tasks
    facade.tasks[str(lost.id)]["attempt"] = 2

    extension = client.extend(HOLDER, [Held(id=one.id, attempt=one.attempt) for one in (kept, lost)])

    assert extension.lost == (lost.id,)
    assert extension.cancelled == ()


def test_a_release_gives_tasks_back_and_says_which(facade: Any, client: PollClient) -> None:
    facade.submit("удочка")
    task = claimed_task(client)

    released = client.release(HOLDER, [Held(id=task.id, attempt=1)])

    assert released == [task.id]
    assert facade.made("/release")[0]["reason"] == "drain"
    assert facade.statuses() == ["pending"]


def test_another_holder_is_told_that_the_lease_is_lost(facade: Any, client: PollClient) -> None:
    facade.submit("удочка")
    task = claimed_task(client).model_copy(update={"attempt": 7})

    refused = told(client, completed(task))

    assert isinstance(refused, errors.LeaseLost)
    assert refused.message == "as told: lease_lost"


def test_a_wrong_token_is_refused(facade: Any) -> None:
    with pytest.raises(TokenRefused):
        PollClient(facade.url, "another").claim(HOLDER, WANT)


REFUSALS = [
    (400, "malformed_body", errors.MalformedBody),
    (404, "not_found", errors.NotFound),
    (409, "task_finished", errors.TaskFinished),
    (422, "invalid_result", errors.InvalidResult),
    (503, "store_unavailable", errors.Unavailable),
]


@pytest.mark.parametrize(("status", "code", "kind"), REFUSALS)
def test_refusals_of_a_report_become_our_errors(
    facade: Any, fault: Any, client: PollClient, status: int, code: str, kind: type[Exception]
) -> None:
    facade.faults.append(fault("/results", status, code))

    with pytest.raises(kind) as refused:
        client.report(HOLDER, [OF_ANOTHER])

    assert type(refused.value) is kind


@pytest.mark.parametrize(("status", "code", "kind"), [*REFUSALS, (413, "too_large", errors.TooLarge)])
def test_refusals_of_an_outcome_become_our_errors(
    facade: Any, fault: Any, client: PollClient, status: int, code: str, kind: type[Exception]
) -> None:
    verdict = {"id": None, "status": "refused", "http_status": status, "code": code, "message": "why"}
    facade.faults.append(fault("/results", 200, body=orjson.dumps({"verdicts": [verdict]})))

    refused = told(client, OF_ANOTHER)

    assert type(refused) is kind


def test_a_result_that_is_too_large_for_any_call_is_refused_alone(
    facade: Any, fault: Any, client: PollClient
) -> None:
    facade.faults.append(fault("/results", 413, "too_large"))

    refused = told(client, OF_ANOTHER)

    assert type(refused) is errors.TooLarge
    assert refused.message == "POST /internal/workers/results was answered 413: as told: too_large"


def test_a_date_to_come_back_at_is_understood(facade: Any, fault: Any, client: PollClient) -> None:
    headers = {"Retry-After": "Fri, 31 Dec 2100 23:59:59 GMT"}  # http.server sends its own Date.
    facade.faults.append(fault("/tasks", 429, "rate_limited", headers))

    with pytest.raises(errors.Unavailable) as refused:
        client.claim(HOLDER, WANT)

    assert refused.value.retry_after == 300.0


def test_an_answer_that_is_none_is_quoted_in_no_traceback(
    facade: Any, fault: Any, client: PollClient
) -> None:
    """Celery logs tracebacks, and Flower shows them."""
    word = "kana" + "rejka"
    task = {"id": word, "payload": {"texts": [word]}, "status": word}
    body = orjson.dumps({"tasks": [task], "lease_seconds": 90})
    facade.faults.append(fault("/tasks", 200, body=body))

    with pytest.raises(errors.Unavailable) as caught:
        client.claim(HOLDER, WANT)

    assert word not in "".join(traceback.format_exception(caught.value))


def test_a_redirect_is_not_followed(facade: Any, fault: Any, client: PollClient) -> None:
    facade.faults.append(fault("/tasks", 302, "", {"Location": facade.url + "/elsewhere"}))

    with pytest.raises(errors.Unavailable, match="which is not followed"):
        client.claim(HOLDER, WANT)

    assert len(facade.calls) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"<html>Please log in to the hotel's network</html>",
        b"{}",
        b'{"tasks": [], "lease_seconds": 0}',
        b'{"tasks": [{"id": "x"}], "lease_seconds": 90}',
    ],
)
def test_a_good_status_with_a_strange_body_is_no_answer(
    facade: Any, fault: Any, client: PollClient, body: bytes
) -> None:
    facade.faults.append(fault("/tasks", 200, body=body))

    with pytest.raises(errors.Unavailable, match="not as the contract says"):
        client.claim(HOLDER, WANT)


def test_an_answer_beyond_all_measure_is_not_read_to_its_end(
    facade: Any, fault: Any, client: PollClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gifty_compute.poll.client._MOST_BYTES", 1_000_000)
    facade.faults.append(fault("/tasks", 200, body=b" " * 1_200_000))

    with pytest.raises(errors.Unavailable, match="more than 1000000 bytes"):
        client.claim(HOLDER, WANT)


def test_a_large_error_page_still_tells_its_status(facade: Any, fault: Any, client: PollClient) -> None:
    facade.faults.append(fault("/results", 413, body=b"<p>" * 100_000))

    refused = told(client, OF_ANOTHER)

    assert isinstance(refused, errors.TooLarge)


def test_a_server_that_is_not_there_is_unavailable(facade: Any, token: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        client = PollClient(f"http://127.0.0.1:{unused.getsockname()[1]}", token)

        with pytest.raises(errors.Unavailable, match="Connection refused"):
            client.claim(HOLDER, WANT)


@pytest.mark.timeout(10)
def test_a_server_that_never_answers_is_unavailable_after_the_timeout(silent_port: int, token: str) -> None:
    client = PollClient(f"http://127.0.0.1:{silent_port}", token, timeout=(1, 0.1))

    with pytest.raises(errors.Unavailable, match="timed out"):
        client.claim(HOLDER, WANT)


def test_a_name_that_does_not_resolve_is_unavailable(token: str) -> None:
    with pytest.raises(errors.Unavailable, match=r"nowhere\.invalid gave no answer"):
        PollClient("http://nowhere.invalid", token).claim(HOLDER, WANT)


def test_threads_do_not_share_a_connection(facade: Any, client: PollClient) -> None:
    client.claim(HOLDER, WANT)

    beats = [threading.Thread(target=client.extend, args=(HOLDER, [])) for _ in range(8)]
    for beat in beats:
        beat.start()
    for beat in beats:
        beat.join(10)
    client.claim(HOLDER, WANT)

    assert len({call.port for call in facade.calls}) == 9


def test_a_heartbeat_does_not_wait_behind_a_slow_result(facade: Any, fault: Any, client: PollClient) -> None:
    facade.submit("удочка")
    task = claimed_task(client)
    gate = threading.Event()
    facade.faults.append(fault("/results", gate=gate))
    slow = threading.Thread(target=client.report, args=(HOLDER, [completed(task)]))

    slow.start()
    client.extend(HOLDER, [Held(id=task.id, attempt=1)])
    answered_meanwhile = slow.is_alive()
    gate.set()
    slow.join(10)

    assert answered_meanwhile


def test_a_worker_is_introduced_after_its_first_claim_and_named_in_each_heartbeat(
    facade: Any, token: str
) -> None:
    client = PollClient(facade.url, token, info=lambda: {"gpu": "Tesla T4"})
    holder = Holder(worker_id="kaggle-1", session="s")

    client.claim(holder, Want())
    client.claim(holder, Want())
    client.extend(holder, [])

    said = [(body["tasks"], body["info"]) for body in facade.made("/heartbeat")]
    assert said == [([], {"gpu": "Tesla T4"})] * 2
