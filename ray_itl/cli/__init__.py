"""The command line.

main (finds the command of `ray-itl NAME`), then a file for each: curate, embed, finetune, prepare, verify. Below them:
command (what makes a function the main of one), config (the edge to Hydra), config_path (where its files are),
arguments (as people type them, for Hydra), names (that Hydra has no way to write), hydra_words (its refusals in words),
guard (exit codes, signals, one line for every error), bug_report (what nobody foresaw, kept in a file), library_output
(what libraries write past us).
"""
