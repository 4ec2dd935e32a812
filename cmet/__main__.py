"""`python -m cmet` is `cmet`. Written by hand, like `__init__.py`: no notebook's module can have this name and its place."""
import sys

from .cli import main

if __name__ == "__main__": sys.exit(main())
