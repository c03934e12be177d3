"""Breaking the running service, and checking what is left."""
