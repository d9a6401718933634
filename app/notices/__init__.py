"""What others are told: written in the transaction in which it happens, sent by somebody else."""
