"""`python -m ciyuan.cli`, where the program itself is not on the path."""

from ciyuan.cli import main

main()
