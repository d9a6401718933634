"""Postgres: its tables, its connections, and the server that starts by itself."""
