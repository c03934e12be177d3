"""Will it fit, how long will it take, and which batch: answered before anything is trained."""
