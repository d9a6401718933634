"""What a thief may do to a stolen network, for the survival report.

Without torch: `catalogue` (the names of the steps, and which attacks a suite runs). With torch, one kind of attack a file:
`tuning` (fine-tuning and re-training), `overwriting`, `transfer`, `pruning`, `quantisation`, `extraction`, `preprocessing`;
`course` runs an attack's steps in order.
"""
