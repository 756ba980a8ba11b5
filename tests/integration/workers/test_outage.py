"""What a Celery worker sends Flower while its broker is away."""

from __future__ import annotations

from urllib.parse import quote, unquote, urlsplit

import pytest
from celery import Celery

from gifty_compute.embedded.valkey import Valkey
from tests.chaos.proxy import FaultProxy


@pytest.mark.timeout(30)
def test_a_heartbeat_does_not_wait_for_a_broker_that_is_away(valkey: Valkey) -> None:
    parts = urlsplit(valkey.url)
    with FaultProxy(unquote(parts.path)) as proxy:
        broker = f"redis://:{quote(parts.password or '', safe='')}@127.0.0.1:{proxy.port}/0"
        app = Celery("test", broker=broker, events="workers.outage:Events", set_as_current=False)
        with app.connection_for_write() as connection:
            dispatcher = app.events.Dispatcher(connection, hostname="alice")
            dispatcher.send("worker-online", retry=True)
            sent = len(dispatcher._outbound_buffer) == 0
            proxy.close()

            dispatcher.send("worker-heartbeat", retry=True)

            assert sent
            assert [event["type"] for event, _ in dispatcher._outbound_buffer] == ["worker-heartbeat"]
        app.close()
