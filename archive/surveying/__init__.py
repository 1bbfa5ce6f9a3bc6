"""Surveying resources: their files, as they are on the disk and as they are listed."""
