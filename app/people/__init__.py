"""People: who acts for a vendor in a browser, and what they may do there."""
