"""Servers that answer as the external services do, and fail when told to."""

#: The names of those that a stack runs: each has a port and a URL of its own.
SIMULATORS = ("mapper", "clingen", "uniprot", "genboree", "ensembl", "clinvar")
