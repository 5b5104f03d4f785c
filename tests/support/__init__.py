"""Tools that several tests share: one noun, one file."""
