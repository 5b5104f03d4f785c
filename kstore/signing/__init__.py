"""Who may be trusted."""
