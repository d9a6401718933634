"""What a vendor holds and shows: signing keys, triggers, commitments and the labels the beacon draws. Pure."""
