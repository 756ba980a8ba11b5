"""The facade: a Flask program that parses, calls the core, and answers."""

from __future__ import annotations

from api import (
    batch_results,
    batches,
    bridge,
    chat,
    circuits,
    docs,
    errors,
    health,
    high,
    metrics,
    notebooks,
    ops,
    request_log,
    results,
    tasks,
    tokens,
)
from api.admission import Admission
from api.auth import Guard
from api.facade import Facade
from gifty_compute.core import Core

__all__ = ["create_app"]


def create_app(core: Core, *, threads: int | None = None) -> Facade:
    """The WSGI application over this core; starts nothing. `threads` is how many the server has, if it has
    fewer than the settings say."""
    app = Facade("api", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = core.settings.max_body_bytes
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    app.extensions["core"] = core
    settings = core.settings
    app.extensions["guard"] = Guard(
        api=settings.api_tokens,
        internal=settings.internal_api_token,
        ops=settings.ops_tokens,
        find=core.tokens.find,
    )
    clients = len({client for client, _ in settings.api_tokens})
    app.extensions["admission"] = Admission(threads or settings.facade_threads, clients=clients)
    paths = (high, chat, tasks, batches, batch_results, bridge, results, health, metrics)
    for part in (*paths, ops, circuits, tokens):
        app.register_blueprint(part.blueprint)
    app.register_blueprint(notebooks.blueprint)
    for prefix in ("/api/v1", "/scale/<scale>", "/scale/<scale>/api/v1"):
        app.register_blueprint(notebooks.blueprint, url_prefix=prefix, name=f"notebooks below {prefix[1:]}")
    if core.settings.docs_enabled:
        app.register_blueprint(docs.blueprint)
    errors.install(app)
    request_log.install(app, core.clock)
    metrics.install(app, core)
    return app
