"""Other bridges, held against Kalinka."""
