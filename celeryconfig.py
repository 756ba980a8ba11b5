"""Celery's own settings. The row in PostgreSQL is the truth; a message only announces it.

So nothing here tries to make messages safe: no results, no retries, no ETA, no revoke.
"""

from gifty_compute.production import refuse_weak_broker
from gifty_compute.queue import broker
from gifty_compute.settings import read_broker_settings

_settings = read_broker_settings()
refuse_weak_broker(_settings)
broker_url = broker.broker_url(_settings.redis_url.get_secret_value())
broker_connection_retry_on_startup = True
broker_connection_timeout = 2
broker_transport_options = {
    "socket_timeout": 5,
    "socket_connect_timeout": 1,
    "socket_keepalive": True,
    "health_check_interval": 25,
    "visibility_timeout": 3600,
    # A publisher tries twice at once, not for the whole of broker_connection_timeout; consumers reconnect by
    # rules of their own.
    "max_retries": 1,
    "interval_start": 0,
    "interval_step": 0,
    "interval_max": 0,
}

# Messages are JSON and carry ids only: Flower shows arguments.
task_serializer = "json"
accept_content = ["json"]
task_ignore_result = True

# A worker that dies gives its announcement back; one that is busy leaves the others to its peers.
task_acks_late = True
worker_prefetch_multiplier = 1
worker_soft_shutdown_timeout = 60.0
worker_hijack_root_logger = False

# Flower shows the fleet.
worker_send_task_events = True
task_send_sent_event = True
task_track_started = True

# The second path to what every facade process does by itself. A message that came late has no worth.
beat_schedule = {"maintain": {"task": "gifty.maintain", "schedule": 10.0, "options": {"expires": 10}}}
task_routes = {"gifty.maintain": {"queue": "maintain"}}
timezone = "UTC"
