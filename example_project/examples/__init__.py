"""The examples: WebSocket views, and the pages on which to try them."""
