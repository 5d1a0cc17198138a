"""Migrations of the example project."""
