"""The names of queues, which stand in the database and on command lines.

Queues are by what a job needs: the hardware of EMBED_*; the patience of PROBE, whose jobs wait for suspects; nothing that
is slow for COURT, which holds what others wait for; the patience of POST, whose receivers may be slow, too. A worker
listens to those it can serve, and every worker to SYSTEM.
"""

EMBED_CPU, EMBED_GPU, PROBE, COURT, POST, SYSTEM = "embed.cpu", "embed.gpu", "probe", "court", "post", "system"
QUEUES = (EMBED_CPU, EMBED_GPU, PROBE, COURT, POST, SYSTEM)
