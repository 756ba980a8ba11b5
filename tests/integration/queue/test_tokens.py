"""Workers' own tokens on real PostgreSQL."""

from __future__ import annotations

import threading
from uuid import uuid4

import pytest
from sqlalchemy import text

from gifty_compute.errors import Conflict, NotFound
from gifty_compute.queue.database import Database
from gifty_compute.queue.tokens import WorkerTokens
from gifty_compute.wire.token import Minted, MintRequest


@pytest.fixture
def tokens(database: Database) -> WorkerTokens:
    return WorkerTokens(database)


def mint(tokens: WorkerTokens, name: str = "kaggle-1", **fields: object) -> Minted:
    return tokens.mint(MintRequest.model_validate({"name": name, **fields}), created_by="anna")


def execute(database: Database, sql: str) -> None:
    with database.connection() as connection:
        connection.execute(text(sql))


def test_a_token_is_found_by_its_secret_with_all_that_was_said_of_it(tokens: WorkerTokens) -> None:
    minted = mint(tokens, task_types=["embedding"], trust="untrusted", expires_in_days=30)

    found = tokens.find(minted.token)

    assert found is not None
    assert minted.model_dump(exclude={"token"}) == found.model_dump()
    assert (found.name, found.task_types, found.trust) == ("kaggle-1", ("embedding",), "untrusted")
    assert found.expires_at is not None
    assert (found.expires_at - found.created_at).days == 30


def test_two_tokens_differ_and_have_256_random_bits(tokens: WorkerTokens) -> None:
    first, second = mint(tokens, "a").token, mint(tokens, "b").token

    assert first != second
    assert first.startswith("gwt_")
    assert len(first) == len("gwt_") + 43


def test_the_secret_is_nowhere_in_the_database(tokens: WorkerTokens, database: Database) -> None:
    minted = mint(tokens)

    with database.connection() as connection:
        row = connection.execute(text("SELECT w::text AS row FROM compute_worker_tokens w")).scalar()

    assert row is not None
    assert minted.name in row
    assert minted.token not in row
    assert minted.token.removeprefix("gwt_") not in row


@pytest.mark.parametrize("secret", ["", "gwt_", "gwt_nobody", "shared", "gwt_\udcff", "gwt_" + "a" * 100_000])
def test_another_secret_finds_nothing(tokens: WorkerTokens, secret: str) -> None:
    mint(tokens)

    assert tokens.find(secret) is None


def test_a_revoked_token_is_found_no_more_and_stays_revoked_since_the_first_time(
    tokens: WorkerTokens,
) -> None:
    minted = mint(tokens)

    first, again = tokens.revoke(minted.id), tokens.revoke(minted.id)

    assert tokens.find(minted.token) is None
    assert first.revoked_at == again.revoked_at is not None
    with pytest.raises(NotFound):
        tokens.revoke(uuid4())


def test_an_expired_token_is_found_no_more(tokens: WorkerTokens, database: Database) -> None:
    minted = mint(tokens, expires_in_days=1)
    execute(database, "UPDATE compute_worker_tokens SET expires_at = now() - interval '1 second'")

    assert tokens.find(minted.token) is None


def test_a_name_is_free_again_once_its_token_is_revoked(tokens: WorkerTokens) -> None:
    first = mint(tokens)
    with pytest.raises(Conflict, match="kaggle-1"):
        mint(tokens)
    tokens.revoke(first.id)

    second = mint(tokens)

    assert [token.id for token in tokens.list()] == [second.id, first.id]


def test_of_two_who_mint_one_name_at_once_one_gets_it(tokens: WorkerTokens) -> None:
    start, made = threading.Barrier(4), []

    def go() -> None:
        start.wait(10)
        try:
            made.append(mint(tokens).id)
        except Conflict:
            made.append(None)

    threads = [threading.Thread(target=go) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert len(made) == 4
    assert made.count(None) == 3
