"""What clients speak: values and their types, the native protocol, the syntax of statements, and their plans."""
