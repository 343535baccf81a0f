"""One file a migration, in order. Read from `0001` onwards."""
