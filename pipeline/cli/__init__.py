"""The command `email-archive`."""
