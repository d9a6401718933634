"""The transparency log as stored: append, prove, open beacons."""
