"""The one road of every worker: claim ahead, hand to the performer, report in bulk, renew what is held."""

from gifty_compute.perform.pipeline import Pipeline
from gifty_compute.perform.source import Performer, TaskSource, Wanted
from gifty_compute.perform.tools import Tools
from gifty_compute.perform.verdict import Verdict

__all__ = ["Performer", "Pipeline", "TaskSource", "Tools", "Verdict", "Wanted"]
