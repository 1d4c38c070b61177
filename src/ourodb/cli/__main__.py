"""``python -m ourodb.cli`` is ``ouro``, wherever its script was installed."""

from ourodb.cli import main

if __name__ == "__main__":
    main()
