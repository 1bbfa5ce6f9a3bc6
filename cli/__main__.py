"""``python -m cli``: the command line without the script that installation makes."""

from cli.main import main

if __name__ == "__main__":
    main()
