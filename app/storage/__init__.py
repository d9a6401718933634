"""Blobs, named by their digest."""
