"""Values and their types."""
