"""What keeps a child that reads strangers' bytes apart from everything else.

Start with `sandbox` (what this machine can do, and what of it an order gets), then `child` (start, speak with and end a
confined child), `confined` (the program that applies it to itself) and the means, a file each.
"""
