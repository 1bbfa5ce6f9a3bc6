"""The catalogue in SQLite: every statement of prearc, in functions named by intent."""
