"""
The demo market and the real day: clients of a running instance.

They speak to it through the published SDK and the HTTP API alone, as anybody would, and import nothing of the server.
"""
