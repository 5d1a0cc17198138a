"""Routines that are played on many pages at the same time."""
