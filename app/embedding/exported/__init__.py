"""Networks that their owners bring as exported programs (`.pt2`): read, checked and run by our own code.

Start with `archive` (the file), then `graph` (its operations, checked), `ops` (which there may be), `layers` and `program`
(the network).
"""
