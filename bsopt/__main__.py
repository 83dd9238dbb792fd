"""`python -m bsopt` is `bsopt`."""

from bsopt.cli.main import main

if __name__ == "__main__":
    main(prog_name="python -m bsopt")
