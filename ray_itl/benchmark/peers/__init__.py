"""What a user might pick rows with instead: one file for each package, used as its documentation says."""
