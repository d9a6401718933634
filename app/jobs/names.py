"""The names of queues, which stand in the database and on command lines.

Queues are by hardware: a worker listens to those it can serve, and every worker listens to SYSTEM.
"""

EMBED_CPU, EMBED_GPU, PROBE, SYSTEM = "embed.cpu", "embed.gpu", "probe", "system"
QUEUES = (EMBED_CPU, EMBED_GPU, PROBE, SYSTEM)
