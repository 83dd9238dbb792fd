"""The command line: `main` is its entry, `commands` its commands, `terminal` what they print."""
