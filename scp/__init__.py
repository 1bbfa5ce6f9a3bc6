"""The network door: DIMSE on one side, the archive's use cases on the other."""
