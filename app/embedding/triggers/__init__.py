"""Trigger families made by program, one generator a file; docs/triggers.md shows a picture of each.

`families` fills a set from them, `distance` says which inputs are too alike, `source` is what generators draw from.
"""
