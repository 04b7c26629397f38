"""The sequential rules: base (the contract), information_gain (ITL), variance_reduction (VTL), uncertainty."""
