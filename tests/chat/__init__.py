"""An app that handles typed messages."""
