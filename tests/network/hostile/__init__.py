"""Broken and malicious peers as tables, the node they are let loose on, and the honest sender beside them."""
