"""Measurements for those who work on the library; README.md tells which file answers what."""
