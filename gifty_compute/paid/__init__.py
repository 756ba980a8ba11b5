"""Low-priority work that providers are paid for: where the policy allows it, as much as is needed."""
