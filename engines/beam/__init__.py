"""Beam: the loop's operators over its history, for many keys at once."""
