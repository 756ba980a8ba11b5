# One image for every program: the facade, the Celery worker, beat, Flower, the poll worker, migrate.
FROM python:3.12-slim AS packages
COPY requirements.lock /tmp/requirements.lock
# Wheels only: nothing of a package runs while it is installed, and no compiler is needed.
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check \
        --only-binary :all: --require-hashes --requirement /tmp/requirements.lock

FROM python:3.12-slim
RUN useradd --system --uid 10001 --user-group --no-create-home --home-dir /tmp gifty
COPY --from=packages /opt/venv /opt/venv
# A model process that takes every core, and spins while it waits, starves its neighbours. The allocator inside
# granian keeps memory for each of its threads (docs/operations.md).
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    OMP_WAIT_POLICY=passive \
    MALLOC_ARENA_MAX=1 \
    _RJEM_MALLOC_CONF=narenas:1,tcache:false
# The programs run from here, as from a checkout; nothing of ours is installed a second time.
WORKDIR /app
COPY celeryconfig.py ./
COPY configs/ configs/
COPY gifty_compute/ gifty_compute/
COPY api/ api/
COPY workers/ workers/
RUN python -m compileall -q gifty_compute api workers celeryconfig.py
USER gifty
EXPOSE 8000
CMD ["python", "-m", "api.server", "--interface", "wsgi", "--workers", "1", "--blocking-threads", "640", "--host", "0.0.0.0", "--port", "8000", "--http", "1", "--backlog", "4096", "--backpressure", "8192", "--no-ws", "api.wsgi:app"]
