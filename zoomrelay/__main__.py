"""`python -m zoomrelay`."""

from zoomrelay.cli import main

main()
