"""The providers' side of the wire: one server, each provider in its own format, with faults as scripted."""
