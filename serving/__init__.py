"""The ways in: the command line, settings, reports."""
