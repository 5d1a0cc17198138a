"""Who is who: users by their names, guests by a name that their session keeps."""

from __future__ import annotations

import random
import secrets

from django.http import HttpRequest

_MANNERS = "Brave Calm Clever Early Gentle Merry Patient Quiet Swift Wise".split()
_ANIMALS = "Badger Crane Heron Lynx Marten Otter Raven Stork Tern Wren".split()


def find_person(request: HttpRequest) -> dict[str, str]:
    """Return the ``person``, the same in all windows, and the ``name``."""
    user = request.user
    if user.is_authenticated:
        return {"person": f"user {user.pk}", "name": user.get_username()}
    if "guest" not in request.session:
        request.session["guest"] = {
            "person": f"guest {secrets.token_hex(8)}",
            # No user's name has a space in it.
            "name": f"{random.choice(_MANNERS)} {random.choice(_ANIMALS)}",
        }
    guest: dict[str, str] = request.session["guest"]
    return guest
