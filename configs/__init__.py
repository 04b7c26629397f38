"""Every option with its default, as YAML for Hydra; installed as `ray_itl.configs`."""
