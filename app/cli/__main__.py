"""`python -m app.cli` is `trapstreet`."""

from app.cli.commands import main

main()
