"""The gateway: the pages and the doors through which kiosks and owners come in."""
