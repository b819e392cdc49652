"""Makes docs/configuration.md and docs/commands.md from the settings and from the command line itself."""
