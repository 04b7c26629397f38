"""What selections are worth to a model: held-out passages, a language model fine-tuned for each, paired comparisons.

sift (the suites `sift` and `sift_copies`; shown by sift_report), redundancy (copies from 1 to 32). Shared: settings
(options, and the rules of comparison), corpus (tests and pools of passages), edits (near-copies), rules (who picks),
tuning (one test), scoring (all tests, resumable), paired (statistics).
"""
