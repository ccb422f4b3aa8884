"""Client, meter and command line of the Ciyuan token exchange."""
