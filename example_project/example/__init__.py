"""The example project: settings, root URLconf and WSGI application."""
