"""Poll workers as Flower sees them: they cannot reach the broker, so the facade speaks of them there."""
