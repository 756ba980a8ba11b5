"""Telling callers of ends: `receivers` says who may be told, `sender` tells, each try is a `delivery`."""
