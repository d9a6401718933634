"""The only way out to the network; assumes a hostile peer.

Start with `addresses` (where we may connect), then `transport` (how bytes move), `adapters` (what they mean, pure code)
and `probe` (a dispute's questions, asked in their secret order).
"""
