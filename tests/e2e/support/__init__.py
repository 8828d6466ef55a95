"""What the end-to-end tests share: the agent as a program, clusters as users see them, waiting with a deadline."""
