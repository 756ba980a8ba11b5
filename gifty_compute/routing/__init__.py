"""The high road: work that is answered at once, by the first provider that can."""
