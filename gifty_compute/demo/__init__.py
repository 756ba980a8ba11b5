"""The demo: a catalogue of gifts, embedded by the real queue and asked real questions."""
