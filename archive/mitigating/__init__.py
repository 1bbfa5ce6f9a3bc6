"""Mitigation: plans from survey reports, their files, carrying them out, undoing them."""
