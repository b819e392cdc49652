"""Looks at a running installation: `kalinka config check --connect`. It reads, probes, and leaves nothing behind."""
