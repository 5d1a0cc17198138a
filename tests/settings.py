"""Settings of the site that the tests serve: Django's defaults, and ours."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

SECRET_KEY = "for the tests only"
DEBUG = "DEBUG" in os.environ
ALLOWED_HOSTS = os.environ.get("TEST_ALLOWED_HOSTS", "*").split(",")
ROOT_URLCONF = "tests.urls"
USE_TZ = True

INSTALLED_APPS = [
    "dwebsocket",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "tests.publisher",
    "tests.chat",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.gzip.GZipMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "tests.middleware.mark_response",
    "tests.middleware.prepare_environment",
    "tests.middleware.ExceptionHook",
]
# Servers started with it run the tests of the middleware.
MIDDLEWARE += filter(None, os.environ.get("TEST_MIDDLEWARE", "").split(","))

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

DATABASES: dict[str, dict[str, Any]] = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get(
            "DATABASE_PATH", Path(tempfile.gettempdir()) / "dwebsocket-unused.sqlite3"
        ),
        "ATOMIC_REQUESTS": True,
    }
}
if "POSTGRES_PORT" in os.environ:
    DATABASES["default"] = {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": "127.0.0.1",
        "PORT": os.environ["POSTGRES_PORT"],
        "NAME": "postgres",
        "USER": "postgres",
        "ATOMIC_REQUESTS": True,
        "OPTIONS": {"pool": {"max_size": 4}} if "POSTGRES_POOL" in os.environ else {},
    }
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STATIC_URL = "static/"
LOGIN_URL = "/login/"

WEBSOCKET_SUBPROTOCOLS = ["chat.v2", "chat.v1"]
# Where there is a proxy.
WEBSOCKET_TRUSTED_PROXIES = ["127.0.0.1", "unix"]

if "ACCEPT_ALL" in os.environ:
    WEBSOCKET_ACCEPT_ALL = True
if "COMPRESSION" in os.environ:
    WEBSOCKET_COMPRESSION = True
if "MAX_CONNECTIONS" in os.environ:
    WEBSOCKET_MAX_CONNECTIONS = int(os.environ["MAX_CONNECTIONS"])
if "GROUPS" in os.environ:
    WEBSOCKET_GROUPS = json.loads(os.environ["GROUPS"])
if "CACHE" in os.environ:
    # Given up as soon as groups are.
    _TIMEOUTS = {"socket_timeout": 2, "socket_connect_timeout": 2}
    CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": os.environ["CACHE"],
            "OPTIONS": _TIMEOUTS,
        }
    }
if "STOCK_RUNSERVER" in os.environ:
    # Behind staticfiles the command isn't ours, which dwebsocket.W003 says.
    INSTALLED_APPS.append(INSTALLED_APPS.pop(0))

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "loggers": {
        "dwebsocket": {
            "handlers": ["console"],
            "level": os.environ.get("LOG_LEVEL", "INFO"),
        }
    },
}
