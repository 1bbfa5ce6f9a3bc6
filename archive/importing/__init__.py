"""Importing: files, folders, zips and DICOMDIRs through exactly the receiving path, after a look at all of them."""
