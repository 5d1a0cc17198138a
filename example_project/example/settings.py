"""Settings of the example project, changed from outside by the environment.

DEBUG            1 (default) or 0
SECRET_KEY       required for anything but a demo
ALLOWED_HOSTS    comma-separated, used when DEBUG is off
DATABASE_PATH    the SQLite file, db.sqlite3 beside manage.py by default
REDIS_URL        where groups are: without it, one process has them to itself
WEBSOCKET_*      becomes the setting of that name
"""

from __future__ import annotations

import ast
import os
from pathlib import Path
from typing import Any

import django


def parse(value: str) -> Any:
    """Return `value` read as true, false or a Python literal, else unchanged."""
    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    try:
        return ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return value


BASE_DIR = Path(__file__).resolve().parent.parent

DEBUG = bool(parse(os.environ.get("DEBUG", "1")))

SECRET_KEY = os.environ.get("SECRET_KEY", "insecure-key-for-the-demo-only")

ALLOWED_HOSTS = (
    ["*"]
    if DEBUG
    else os.environ.get("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]").split(",")
)

# WebSockets

if "REDIS_URL" in os.environ:
    WEBSOCKET_GROUPS = {
        "default": {
            "BACKEND": "dwebsocket.groups.redis.RedisBackend",
            "LOCATION": os.environ["REDIS_URL"],
        }
    }
    # Where any worker finds the state of a task.
    CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": os.environ["REDIS_URL"],
            "OPTIONS": {"socket_timeout": 2, "socket_connect_timeout": 2},
        }
    }

for name, value in os.environ.items():
    if name.startswith("WEBSOCKET_"):
        globals()[name] = parse(value)

# Application

INSTALLED_APPS = [
    "dwebsocket",  # before staticfiles, whose runserver it replaces
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "examples",
    "chat",
    "routines",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "example.middleware.restrict_content",
    "whitenoise.middleware.WhiteNoiseMiddleware",  # static files on every server
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "example.urls"

WSGI_APPLICATION = "example.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "examples.pages.describe_examples",
            ],
        },
    },
]

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("DATABASE_PATH", BASE_DIR / "db.sqlite3"),
        # Workers that write at the same time wait for each other.
        "OPTIONS": {"timeout": 20},
    }
}
if django.VERSION >= (5, 1):
    # From the start, as waiting in the midst of a transaction isn't possible.
    DATABASES["default"]["OPTIONS"]["transaction_mode"] = "IMMEDIATE"

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Users

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{validator}"}
    for validator in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "index"
LOGOUT_REDIRECT_URL = "index"

# Language and time

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_I18N = True
USE_TZ = True

# Static files

STATIC_URL = "static/"
WHITENOISE_USE_FINDERS = True  # so collectstatic is not needed

# Logging

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "plain": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"},
    },
    "handlers": {
        "console": {"class": "logging.StreamHandler", "formatter": "plain"},
    },
    "loggers": {
        "django": {"handlers": ["console"], "level": "INFO"},
        "dwebsocket": {"handlers": ["console"], "level": "INFO"},
        "examples": {"handlers": ["console"], "level": "INFO"},
    },
}
