"""Vendors and what they registered: story 1, from key to receipt to labels."""
