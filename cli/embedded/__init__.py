"""The whole service on one machine, in one terminal."""
