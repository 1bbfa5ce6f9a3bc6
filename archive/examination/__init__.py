"""Looking at a session before it goes on: disk against rows, both sides of an archiving."""
