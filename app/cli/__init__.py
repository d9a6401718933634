"""The command `trapstreet`, one file for the commands of each kind of person; `commands` joins them."""
