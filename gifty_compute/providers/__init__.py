"""Who can answer at high priority: one module a provider."""
