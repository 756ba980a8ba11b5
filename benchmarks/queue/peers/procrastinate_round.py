"""Procrastinate, one job at a time: `fill` and `work` on stdin, how many on stdout. In its own venv."""

import asyncio
import sys

from procrastinate import App, PsycopgConnector
from procrastinate.jobs import Status


async def main(dsn: str, jobs: int) -> None:
    app = App(connector=PsycopgConnector(conninfo=dsn, min_size=1, max_size=1))

    @app.task(queue="bench")
    def noop() -> None:
        pass

    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        manager = app.job_manager
        worker = await manager.register_worker()
        for word in sys.stdin:
            done = 0
            if word.strip() == "fill":
                # A twentieth of the others' jobs in a round: it is that much slower.
                await noop.batch_defer_async(*[{} for _ in range(2 * jobs)])
            while word.strip() == "work" and done < jobs // 20:
                job = await manager.fetch_job(queues=None, worker_id=worker)
                assert job is not None
                await manager.finish_job(job, status=Status.SUCCEEDED, delete_job=False)
                done += 1
            print(done, flush=True)


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
