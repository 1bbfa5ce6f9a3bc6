"""The shell door: words only, no decisions."""
