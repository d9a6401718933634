"""HTTP for programs: one resource, one file; schemas above the endpoint that uses them."""
