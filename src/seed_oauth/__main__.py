"""`python -m seed_oauth`: the same as the command `seed-oauth`."""

from seed_oauth.cli.main import main

main()
