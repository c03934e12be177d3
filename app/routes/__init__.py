"""The routes: each parses, calls core, and returns."""
