"""Operators' commands that speak to a running service over HTTP, from any directory."""
