"""`python -m segscape`, and so `torchrun -m segscape`: the command line."""

from segscape.cli import main

if __name__ == "__main__":
    main()
