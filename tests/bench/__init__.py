"""Measures both pipelines on the real servers of the lab, beside what the libraries do alone: `make bench`."""
