"""What recovery, doctor and rebuild are made of."""
