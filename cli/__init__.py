"""The `tuneyard` command: an HTTP client of the API, and `up`, which starts everything."""
