"""The queue: jobs enqueued in the caller's transaction, and the loop that runs them."""
