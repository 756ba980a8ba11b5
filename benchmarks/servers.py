"""The servers of the benchmarks: canned upstreams, this project's facade, and its peers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from typing import IO

import psutil

from gifty_compute.embedded.postgres import Postgres
from gifty_compute.embedded.valkey import Valkey
from gifty_compute.migrations import migrate
from gifty_compute.queue.database import connect

__all__ = ["Server", "facade", "free_port", "litellm", "nginx", "portkey", "python_server", "stores"]

ROOT = Path(__file__).parents[1]
_rng = Random(1)
EMBEDDING = {
    "object": "list",
    "data": [{"object": "embedding", "index": 0, "embedding": [_rng.gauss(0, 1 / 32) for _ in range(1024)]}],
    "model": "bge-m3",
    "usage": {"prompt_tokens": 9, "total_tokens": 9},
}
CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "openai/gpt-oss-20b",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Подарите ему удочку."},
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 12, "completion_tokens": 7, "total_tokens": 19},
}


class Server:
    """A child that serves on a port of this machine."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.psutil = psutil.Process(process.pid)
        self.url = f"http://127.0.0.1:{port}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def started(
    command: list[str],
    port: int,
    *,
    ready: str = "/",
    env: dict[str, str] | None = None,
    log: int | IO[bytes] = subprocess.DEVNULL,
) -> Iterator[Server]:
    """The command as a process group of its own, once it answers HTTP; ended with the block."""
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    try:
        _wait(f"http://127.0.0.1:{port}{ready}", process)
        yield Server(process, port)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    def answers() -> bool:
        if process.poll() is not None:
            raise SystemExit(f"{process.args} ended with {process.returncode}")
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True

    _wait_until(answers, f"{process.args} answers")


def _wait_until(true: Callable[[], bool], what: str) -> None:
    pause = threading.Event()
    for _ in range(1200):
        if true():
            return
        pause.wait(0.1)
    raise SystemExit(f"not within two minutes: {what}")


@contextmanager
def nginx(folder: Path) -> Iterator[Server]:
    """An upstream that costs next to nothing: every POST is answered by a file, at once."""
    program = shutil.which("nginx")
    if program is None:
        raise SystemExit("this benchmark needs nginx: apt-get install nginx-light")
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    (folder / "chat.json").write_text(json.dumps(CHAT, ensure_ascii=False))
    (folder / "embedding.json").write_text(json.dumps(EMBEDDING))
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(
        f"""
        daemon off; worker_processes 1; pid {folder}/pid; error_log stderr crit; user root;
        events {{ worker_connections 4096; }}
        http {{
          access_log off; default_type application/json; keepalive_requests 100000000;
          client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
          fastcgi_temp_path {folder}/fcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
          open_file_cache max=16;
          server {{
            listen 127.0.0.1:{port} backlog=4096; root {folder};
            location / {{ error_page 405 =200 /chat.json; try_files $uri /chat.json =404; }}
            location ~ embeddings$ {{ error_page 405 =200 /embedding.json; try_files /embedding.json =404; }}
          }}
        }}
        """
    )
    with started([program, "-c", str(config), "-p", str(folder)], port) as server:
        yield server


@contextmanager
def python_server(module: str, *arguments: str) -> Iterator[Server]:
    """One of this folder's own upstreams."""
    port = free_port()
    with started([sys.executable, "-m", module, str(port), *arguments], port) as server:
        yield server


@contextmanager
def stores(folder: Path) -> Iterator[tuple[Postgres, Valkey]]:
    """A PostgreSQL, migrated, and a Valkey."""
    with ExitStack() as stack:
        postgres, valkey = Postgres(folder / "postgres"), Valkey(folder / "valkey")
        for server in (postgres, valkey):
            server.start()
            stack.callback(server.stop)
        database = connect(postgres.url)
        migrate(database.engine)
        database.close()
        yield postgres, valkey


@contextmanager
def facade(
    folder: Path,
    logic: str,
    *,
    workers: int = 1,
    threads: int = 64,
    env: dict[str, str],
    at: tuple[Postgres, Valkey] | None = None,
) -> Iterator[Server]:
    """This project as it runs in production, over these stores or a PostgreSQL and a Valkey of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        postgres, valkey = at or stack.enter_context(stores(folder))
        (folder / "logic.yaml").write_text(logic)
        port = free_port()
        command = [sys.executable, "-m", "granian", "--interface", "wsgi", "--workers", str(workers)]
        command += ["--blocking-threads", str(threads), "--host", "127.0.0.1", "--port", str(port)]
        command += ["--no-ws", "--backlog", "4096", "api.wsgi:app"]
        environment = {
            "DATABASE_URL": postgres.url,
            "REDIS_URL": valkey.url,
            "API_TOKENS": "bench:bench-token",
            "INTERNAL_API_TOKEN": "internal",
            "LOGIC_CONFIG_PATH": str(folder / "logic.yaml"),
            "FACADE_THREADS": str(threads),
            "_RJEM_MALLOC_CONF": "narenas:1,tcache:false",  # as the Procfile has them
            "MALLOC_ARENA_MAX": "1",
            **env,
        }
        log = stack.enter_context((folder / "facade.log").open("w+b"))
        server = stack.enter_context(started(command, port, ready="/readyz", env=environment, log=log))
        # The first worker answers while others still load.
        told = folder / "facade.log"
        _wait_until(lambda: told.read_text().count("Started worker") >= workers, f"{workers} workers")
        yield server


@contextmanager
def litellm(venv: Path, folder: Path, upstream: str) -> Iterator[Server]:
    """LiteLLM's proxy, as lean as its documentation makes it: no database, no callbacks, one worker."""
    config, port = folder / "litellm.yaml", free_port()
    config.write_text(
        json.dumps(
            {
                "model_list": [
                    {
                        "model_name": name,
                        "litellm_params": {"model": f"openai/{name}", "api_base": upstream, "api_key": "k"},
                    }
                    for name in ("fast", "bge-m3")
                ],
                "general_settings": {"master_key": "sk-bench"},
                "litellm_settings": {"telemetry": False, "num_retries": 0, "request_timeout": 30},
            }
        )
    )
    command = [str(venv / "bin" / "litellm"), "--config", str(config), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--num_workers", "1"]
    env = {"LITELLM_LOG": "ERROR", "LITELLM_MODE": "PRODUCTION", "NO_DOCS": "True"}
    with started(command, port, ready="/health/liveliness", env=env) as server:
        yield server


@contextmanager
def portkey(folder: Path) -> Iterator[Server]:
    """Portkey's gateway, from npm."""
    port = free_port()
    script = folder / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    with started(["node", str(script), f"--port={port}", "--headless"], port) as server:
        yield server
