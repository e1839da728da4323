"""``python -m kubelb`` is ``kubelb``."""

from kubelb.cli import main

if __name__ == "__main__":
    main()
