"""The one loop that keeps the queue healthy: `maintainer` makes its passes, each other module is a step."""
