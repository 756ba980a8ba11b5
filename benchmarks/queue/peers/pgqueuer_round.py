"""PgQueuer, a hundred jobs at a time: `fill` and `work` on stdin, how many on stdout. In its own venv."""

import asyncio
import sys
import uuid
from datetime import timedelta

import asyncpg
from pgqueuer.db import AsyncpgDriver
from pgqueuer.queries import EntrypointExecutionParameter, Queries


async def main(dsn: str, jobs: int) -> None:
    queries = Queries(AsyncpgDriver(await asyncpg.connect(dsn)))
    await queries.install()
    me = uuid.uuid4()
    entrypoints = {"noop": EntrypointExecutionParameter(concurrency_limit=0)}
    for word in sys.stdin:
        done = 0
        if word.strip() == "fill":
            # All rounds at once: they are few.
            for _ in range(40):
                await queries.enqueue(["noop"] * jobs, [b"{}"] * jobs, [0] * jobs)
        while word.strip() == "work" and done < jobs:
            found = await queries.dequeue(100, entrypoints, me, None, timedelta(seconds=90))
            await queries.log_jobs([(job, "successful", None) for job in found])
            done += len(found)
        print(done, flush=True)


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
