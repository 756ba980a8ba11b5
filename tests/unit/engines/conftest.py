"""The packaged model beside other tests: its threads sleep when they wait."""

import os

# Read when the library is loaded. Threads that spin cost 2.5 times the CPU on two busy cores (measured).
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
