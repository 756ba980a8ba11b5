"""Benchmarks of the queue: submit, claim, work, vectors, depth."""
