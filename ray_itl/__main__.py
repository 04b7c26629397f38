"""`python -m ray_itl NAME ...` is `ray-itl NAME ...`."""

from ray_itl.cli.main import main

if __name__ == "__main__":
    main()
