"""Where it comes from and goes: logs, pictures, analysers."""
