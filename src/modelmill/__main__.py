"""``python -m modelmill``: the command line."""

from modelmill.cli.main import main

if __name__ == "__main__":
    main()
