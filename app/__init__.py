"""Trapstreet proves that a served neural network is somebody's.

A vendor commits to trigger inputs in an append-only log; public randomness then draws their labels; the vendor trains
the model to answer so. Whoever later serves that model gives itself away, and an endpoint that never saw those labels
is confirmed with probability at most 2^-64, whatever the inputs are and however it behaves.

Where to start reading: `db/tables.py` (the nouns), then one story each in `registry/registrations.py`,
`embedding/job.py` and `disputes/resolution.py` (the verbs), then `protocol/evidence.py` (the point).

Below the line, pure: no framework, no I/O, no clock, no randomness. It is what an outside auditor reruns.
  errors, canonical     one tree of errors; a record and its one byte string
  keys                  what a vendor holds and shows: signatures, triggers, commitments, labels
  merkle                why the log cannot be rewritten: tree, checkpoint, receipt
  protocol              what counts as evidence: challenge, transcript, evidence, verdict, bundle

Above it, each floor uses only those beneath:
  db, storage, jobs     Postgres, blobs named by their digest, the queue
  log                   the append-only log in Postgres and its beacon
  registry              story 1: register -> commit -> receipt -> labels
  embedding             story 2: model + data + sealed key -> training -> artifact
  suspects              the only way out to the network; assumes a hostile peer
  disputes              story 3: filing -> challenge -> openings -> probing -> verdict
  api                   HTTP for programs
  main, worker, gpu_worker, cli, demo    wiring
"""

__version__ = "0.1.0"
