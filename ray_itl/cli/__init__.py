"""The command line: main finds the command of `ray-itl NAME`, and curate, embed, finetune, prepare and verify
are one each.

Below them: config (the edge to Hydra), config_path (where its files are), hydra_words (its refusals in words), guard
(exit codes, signals, one line for every error).
"""
