"""One verb, one module: explicit handles in, frozen results out; nothing prints, nothing reads the
environment."""
