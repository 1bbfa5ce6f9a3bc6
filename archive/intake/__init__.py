"""Taking instances in: admission, filing, group commit, quarantine."""
