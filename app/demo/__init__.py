"""The demonstration: the service's real work on real scans of digits, with real processes, in about two minutes.

`story` tells it, `stage` starts and ends the processes, `workshop` is what vendor, thief, outsider and liar do with torch
(always in a child process), `suspect_server` is an ordinary model server that knows nothing of the service.
"""
