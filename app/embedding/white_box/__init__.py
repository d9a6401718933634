"""The white-box check: what a suspect's weights, which are at hand, answer.

Start with `check` (what counts as evidence and what does not), then `child` (the asking) and `job`.
"""
