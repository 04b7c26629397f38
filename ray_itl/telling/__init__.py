"""What a run tells while it goes on, and the forms in which it can be told: lines, one live line, JSON, nothing."""
