"""The commands of `netc`, a module for each group; each has `add_parser(subparsers)`."""
