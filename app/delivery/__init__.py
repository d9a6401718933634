"""What is told leaves the house here: webhooks, feeds, mail."""
