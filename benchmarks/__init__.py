"""Measurements of what the documentation promises; each module is one command whose last line is one JSON object."""
