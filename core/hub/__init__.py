"""What this server has, as repositories of the Hugging Face Hub: for reading, by stock clients."""
