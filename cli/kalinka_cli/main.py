"""Entry points of the `kalinka` command."""
