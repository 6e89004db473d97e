"""``python -m ross``."""

from ross.cli.app import main

main()
