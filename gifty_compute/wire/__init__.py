"""What work looks like: requests, payloads and results of each kind, and the check on every result."""
