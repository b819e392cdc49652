"""The command line of Kalinka: it parses, calls and prints, no more."""
