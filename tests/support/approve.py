"""Stands for a browser and the person before it: opens the address, allows, and follows the way back."""

import sys
import urllib.request

if __name__ == "__main__":
    with urllib.request.urlopen(sys.argv[1], data=b"decision=allow", timeout=30) as page:
        page.read()
