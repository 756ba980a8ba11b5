"""Runs the whole project on one machine: what `gifty-compute up` and the demo start."""

from gifty_compute.stack.interrupts import Interrupts
from gifty_compute.stack.options import Options, default_data_dir
from gifty_compute.stack.runfile import RunInfo
from gifty_compute.stack.stack import Stack
from gifty_compute.stack.up import up

__all__ = ["Interrupts", "Options", "RunInfo", "Stack", "default_data_dir", "up"]
