"""Why the log cannot be rewritten: the tree, its signed checkpoints and the receipts that lead to them. Pure."""
