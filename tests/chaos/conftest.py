"""The parts of the integration tests that chaos needs, too."""

from tests.integration.conftest import core, facade_url, settings

__all__ = ["core", "facade_url", "settings"]
