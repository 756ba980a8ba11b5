"""A logic.yaml with a guard of each kind, in the order in which people write one."""

from __future__ import annotations

WHOLE = """\
llm:
  default_provider: groq
  embedding_provider: local
  model_embedding: multilingual-e5-small
rerank: {model: multilingual-e5-small, providers: [local]}
classify: {model: multilingual-e5-small, providers: [local]}
providers:
  groq:
    models:
      openai/gpt-oss-20b: {price: {input_per_million: 10, output_per_million: 100}}
      openai/gpt-oss-120b: {price: {input_per_million: 10, output_per_million: 100}}
    budget_usd_per_day: 0.01
features:
  use_runpod_for_high_priority: false
callbacks:
  allow_hosts: [hooks.example]
limits:
  requests_per_minute: 60
"""
"""18 lines; cut after ten of the first 17 it still is valid."""
