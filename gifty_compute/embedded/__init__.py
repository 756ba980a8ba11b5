"""PostgreSQL, Valkey and programs that this machine runs for itself, as children of one process.

Linux only: the children's keeper (`shim`) is a subreaper, and the directory lock is flock.
"""
