"""The SDK: the service's contract as Python functions, for programs that only have requests and pydantic."""
