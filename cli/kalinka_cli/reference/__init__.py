"""Makes docs/configuration.md, docs/metrics.md and docs/commands.md from the code itself."""
