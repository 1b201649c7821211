"""A log run again: outcomes, policies and decisions, each beside what the log holds."""
