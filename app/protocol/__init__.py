"""What counts as evidence: entries, beacon, challenge, transcript, walk, verdict, bundle. Pure: an auditor reruns it."""
