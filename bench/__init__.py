"""Side-by-side measurements: `python -m bench`. Figures are printed, never asserted."""
