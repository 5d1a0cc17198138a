"""The chat: rooms, who is in them, and what was said there last."""
