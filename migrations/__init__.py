"""The schema's history: one revision a change, run by `trapstreet migrate`."""
