"""State that the processes of a service share through Redis; each part is safe without it."""
