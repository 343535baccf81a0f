"""`python -m draftproof`."""

from draftproof.cli.main import main

if __name__ == "__main__":
    main()
