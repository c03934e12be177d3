"""What the API server and the worker share: nouns, rules, SQL and storage."""
