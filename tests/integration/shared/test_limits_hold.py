"""Each limit and budget against a model of it, on a real Valkey and a real PostgreSQL.

Hypothesis walks guard x order of reads and writes x pauses x restarts: two processes ask, read, end what is
under way, exchange with the stores, start again; the stores lose their data, go away, lose an answer; the
clock passes the ends of minutes and days. The model says of each request whether it may begin: by what its
process added itself in this window, and by what the others had told before the last exchange. So no sum may
be forgotten before its window is over (K1), and none may be held against a later window.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from sqlalchemy import text

from gifty_compute.clock import Deadline
from gifty_compute.embedded.valkey import Valkey
from gifty_compute.errors import OverLimit, StoreUnavailable, Unavailable
from gifty_compute.logic.source import parse_logic
from gifty_compute.providers.base import Site, Usage
from gifty_compute.queue.database import Database
from gifty_compute.queue.spending import SpendingTable
from gifty_compute.routing.bill import Bill
from gifty_compute.routing.bookkeeper import Bookkeeper
from gifty_compute.routing.budget import Budgets
from gifty_compute.routing.call import Call
from gifty_compute.routing.clients import ClientLimits
from gifty_compute.routing.guard import Candidate
from gifty_compute.routing.limits import Limits
from gifty_compute.routing.spending import Spending
from gifty_compute.shared.counters import RedisCounters
from gifty_compute.wire.spending import Written

REQUESTS, TOKENS, USD = 3, 100, 3.0
# Three letters a token: a request is estimated at 30.
ESTIMATE = 30
PROVIDER = (
    "llm: {default_provider: groq}\nproviders: {groq: {price: {input_per_million: 1, output_per_million: 1}"
)
ONLY = {
    "provider requests": parse_logic(f"{PROVIDER}, limits: {{requests_per_minute: {REQUESTS}}}}}}}"),
    "provider tokens": parse_logic(f"{PROVIDER}, limits: {{tokens_per_minute: {TOKENS}}}}}}}"),
    "budget": parse_logic(f"{PROVIDER}, budget_usd_per_day: {USD}}}}}"),
    "client requests": parse_logic(
        f"{PROVIDER}}}}}\nclients: {{backend: {{requests_per_minute: {REQUESTS}}}}}"
    ),
    "client tokens": parse_logic(f"{PROVIDER}}}}}\nclients: {{backend: {{tokens_per_minute: {TOKENS}}}}}"),
    "client usd": parse_logic(f"{PROVIDER}}}}}\nclients: {{backend: {{usd_per_day: {USD}}}}}"),
}
"""A file for each limit, in which there is no other."""
PAYLOAD = {"messages": [{"content": "я" * 3 * ESTIMATE}], "model": "fast"}


SLOTS = st.sampled_from([0, 1])
PAUSES = st.sampled_from([0.5, 3.0, 3.0, 20.0, 61.0, 130.0])


class Hand:
    """A clock that stands until it is moved; begins a little before midnight."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 1, 1, 23, 57, 50, tzinfo=UTC)

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return self.moment.timestamp()

    def sleep(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)


class Store:
    """The table, which can be away, or lose its answer after it has added."""

    def __init__(self, table: SpendingTable) -> None:
        self._table = table
        self.is_away, self.loses_answer = False, False

    def add(self, writer: str, number: int, lines: Written) -> None:
        self._refuse()
        self._table.add(writer, number, lines)
        if self.loses_answer:
            self.loses_answer = False
            raise StoreUnavailable("the answer was lost")

    def since(self, day: date) -> Written:
        self._refuse()
        return self._table.since(day)

    def _refuse(self) -> None:
        if self.is_away:
            raise StoreUnavailable("away")


@dataclass
class Process:
    """One process's parts, and the model of what it knows."""

    name: int
    counters: RedisCounters
    spending: Spending
    bookkeeper: Bookkeeper
    under_way: list[tuple[Any, Callable[[], None], datetime]] = field(default_factory=list)
    own: defaultdict[Any, float] = field(default_factory=lambda: defaultdict(float))
    """Of each window: what this process added; of dollars, what it has not written."""
    seen: defaultdict[Any, dict[int, float]] = field(default_factory=lambda: defaultdict(dict))
    touched: set[Any] = field(default_factory=set)
    known: dict[Any, float] | None = None
    """Of each day: what the table said last; None before it said anything."""
    sending: dict[Any, float] | None = None
    is_applied: bool = False


class Limited(RuleBasedStateMachine):
    """What is limited, and the stores, are set by the test that runs it."""

    kind: str
    client: redis.Redis
    database: Database

    @initialize()
    def begin_world(self) -> None:
        self.logic, self.is_usd = ONLY[self.kind], self.kind in ("budget", "client usd")
        self.clock, self.store = Hand(), Store(SpendingTable(self.database))
        self.client.flushdb()
        with self.database.connection() as connection:
            connection.execute(text("TRUNCATE compute_spending, compute_spending_writers"))
        self.names = iter(range(1000))
        self.redis: defaultdict[Any, dict[int, float]] = defaultdict(dict)
        self.table: defaultdict[Any, float] = defaultdict(float)
        self.is_away = False
        self.processes = [self._process(), self._process()]
        [offer] = self.logic.offers("llm", self.logic.model("llm", "fast"))
        self.candidate = Candidate(offer, Site("http://groq", "1", "secret"))
        for process in self.processes:
            self._exchange(process)

    def _process(self) -> Process:
        spending = Spending(self.clock, is_shared=True)
        counters = RedisCounters(self.client, self.clock)
        return Process(next(self.names), counters, spending, Bookkeeper(spending, self.store, self.clock))

    # -- what happens ----------------------------------------------------------------------------------------

    @rule(slot=SLOTS, times=st.integers(1, 4), ends=st.booleans(), used=st.sampled_from([20, 30, 45]))
    def ask(self, slot: int, times: int, ends: bool, used: int) -> None:
        """Begins what the model lets begin, and nothing else; all of it may end at once."""
        self._ask(slot, times)
        while ends and self.processes[slot].under_way:
            self._end(slot, used)

    def _ask(self, slot: int, times: int) -> None:
        for _ in range(times):
            process, window = self.processes[slot], self._window(self.clock.now())
            process.touched.add(window)
            allowed = self._allowed(process, window)
            leave = self._enter(process)

            assert (leave is not None) == allowed, (self.kind, window, process)
            if leave is not None:
                process.own[window] += {"requests": 1, "tokens": ESTIMATE}.get(self.kind.split()[-1], 0)
                process.under_way.append((window, leave, self.clock.now()))

    @rule(slot=SLOTS, seconds=PAUSES, used=st.sampled_from([20, 30, 45]))
    def end(self, slot: int, seconds: float, used: int) -> None:
        """What is under way ends, perhaps in another minute or on another day."""
        self._pause(seconds)
        while self.processes[slot].under_way:
            self._end(slot, used)
        self._ask(slot, 4)

    def _end(self, slot: int, used: int) -> None:
        process = self.processes[slot]
        window, leave, began = process.under_way.pop(0)
        bill = Bill(began, Usage(used), 1.0)
        call = self._call()
        if self.is_usd:
            process.spending.paid(self.candidate, call, bill)
            process.own[window] += 1.0
        elif self.kind == "client tokens":
            self._clients(process).paid(self.candidate, call, bill)
        else:
            Limits(self.clock, process.counters).paid(self.candidate, call, bill)
        if self.kind.endswith("tokens"):
            process.own[window] += used - ESTIMATE
        leave()

    @rule(slots=st.sampled_from([(0,), (1,), (0, 1), (1, 0)]))
    def exchange(self, slots: tuple[int, ...]) -> None:
        """What a process does every second; in vain while the stores are away."""
        for slot in slots:
            self._exchange(self.processes[slot])
        self._ask(slots[0], 2)

    def _exchange(self, process: Process) -> None:
        if not self.is_usd:
            if not self.is_away:
                process.counters.refresh()
                self._exchanged(process)
            return
        try:
            process.bookkeeper.refresh()
        except StoreUnavailable:
            self._written_in_vain(process)
        else:
            self._booked(process)

    @rule(slot=SLOTS, seconds=PAUSES)
    def pause(self, slot: int, seconds: float) -> None:
        """Time passes, for the keys of the store as well."""
        self._pause(seconds)
        self._ask(slot, 2)

    def _pause(self, seconds: float) -> None:
        self.clock.sleep(seconds)
        for key in self.client.scan_iter("gifty:*"):
            left = self.client.pttl(key) - round(seconds * 1000)
            if self.client.ttl(key) >= 0:
                self.client.pexpire(key, left) if left > 0 else self.client.delete(key)

    @rule(slot=SLOTS, has_told=st.booleans(), pause=st.sampled_from([0.0, 3.0]))
    def restart(self, slot: int, has_told: bool, pause: float) -> None:
        """What was not told to the stores, and what was under way, is lost with the process."""
        if has_told:
            self._exchange(self.processes[slot])
        self.processes[slot] = self._process()
        self._pause(pause)
        self._exchange(self.processes[slot])
        self._ask(slot, 2)

    @rule(slot=SLOTS)
    def lose_the_data_of_redis(self, slot: int) -> None:
        self.client.flushdb()
        self.redis.clear()
        self._exchange(self.processes[slot])
        self._ask(slot, 2)

    @rule(is_away=st.sampled_from([True, False, False]))
    def stores_go_or_come(self, is_away: bool) -> None:
        self.is_away = self.store.is_away = is_away

    @rule(slot=SLOTS)
    def lose_an_answer(self, slot: int) -> None:
        """The table adds, and its answer never comes."""
        self.store.loses_answer = True
        self._exchange(self.processes[slot])
        self.store.loses_answer = False
        self._ask(slot, 2)

    # -- the subject -----------------------------------------------------------------------------------------

    def _enter(self, process: Process) -> Callable[[], None] | None:
        """None where it may not begin; else what is called at its end."""
        call, clients = self._call(), self._clients(process)
        if self.kind == "client requests":
            try:
                clients.admit_request(self.logic.file, "backend")
            except OverLimit:
                return None
            return lambda: None
        if self.kind.startswith("client"):
            try:
                return clients.admit(call)
            except Unavailable:
                return None
        budgets, limits = Budgets(self.clock, process.spending), Limits(self.clock, process.counters)
        guard = budgets if self.is_usd else limits
        entered = guard.wait(self.candidate, call) is None and guard.enter(self.candidate, call)
        return (lambda: None) if entered else None

    def _clients(self, process: Process) -> ClientLimits:
        return ClientLimits(self.clock, process.counters, process.spending)

    def _call(self) -> Call:
        deadline, model = Deadline.after(5, self.clock), self.logic.model("llm", "fast")
        return Call(self.logic, "llm", model, PAYLOAD, deadline, client="backend")

    # -- the model -------------------------------------------------------------------------------------------

    def _window(self, moment: datetime) -> Any:
        return moment.date() if self.is_usd else int(moment.timestamp() // 60)

    def _allowed(self, process: Process, window: Any) -> bool:
        if self.is_usd:
            known = process.known
            return known is not None and known.get(window, 0.0) + process.own[window] < USD
        total = process.own[window] + sum(process.seen[window].values())
        if self.kind.endswith("requests"):
            return total + 1 <= REQUESTS
        return total + ESTIMATE <= TOKENS

    def _exchanged(self, process: Process) -> None:
        for window, own in process.own.items():
            self.redis[window][process.name] = own
        for window in process.touched:
            others = {name: own for name, own in self.redis[window].items() if name != process.name}
            process.seen[window] |= others

    def _written_in_vain(self, process: Process) -> None:
        """A store that was away, or that added and lost its answer: it is told the same again."""
        process.sending = process.sending or {day: usd for day, usd in process.own.items() if usd} or None
        if not self.is_away and process.sending is not None and not process.is_applied:
            self._apply(process.sending)
            process.is_applied = True

    def _booked(self, process: Process) -> None:
        sending = process.sending or {day: usd for day, usd in process.own.items() if usd}
        if not process.is_applied:
            self._apply(sending)
        for day, usd in sending.items():
            process.own[day] -= usd
        process.sending, process.is_applied = None, False
        process.known = dict(self.table)

    def _apply(self, amounts: dict[Any, float]) -> None:
        for day, usd in amounts.items():
            self.table[day] += usd


@pytest.fixture
def client(valkey: Valkey) -> Iterator[redis.Redis]:
    client = redis.Redis.from_url(valkey.url, socket_timeout=5)
    client.flushdb()
    yield client
    client.close()


@pytest.mark.parametrize("kind", ONLY)
def test_no_limit_opens_before_its_window_ends_and_none_is_closed_without_cause(
    client: redis.Redis, database: Database, kind: str
) -> None:
    machine = type("LimitedHere", (Limited,), {"kind": kind, "client": client, "database": database})
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=30,
            stateful_step_count=30,
            deadline=None,
            database=None,
            suppress_health_check=checks,
            # To shrink an example on real stores takes minutes; the steps that failed are printed as is.
            phases=[Phase.generate],
        ),
    )
