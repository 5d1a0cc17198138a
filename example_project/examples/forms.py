"""The form of the notifications page."""

from __future__ import annotations

from django import forms

from .models import Dam


class DamForm(forms.ModelForm):
    """Adds a dam."""

    class Meta:
        model = Dam
        fields = ["name", "river", "height"]
