"""Makes the pictures of the example project: ``python -m tests.screenshots FOLDER``.

Each is made in light and dark, ``index-light.png`` and so on, with few colours.
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
from pathlib import Path

from PIL import Image
from selenium import webdriver

from .browser import emulate, open_browser
from .example_page import PREPARE, Page, run_python
from .servers import open_farm

_COLOURS = 128
_WIDTH, _HEIGHT = 1200, 900
_PANEL_WIDTH, _PANEL_HEIGHT = 640, 1200  # of windows whose panel alone is shown
_GAP = 16  # pixels between two panels

_USERS = """
from django.contrib.auth.models import User
for name in "ann", "bob":
    User.objects.create_user(name, password="secret")
"""

_TALK = [
    ("bob", "Who has two windows open?"),
    ("ann", "I have: one on the phone, one on the desk."),
    ("bob", "I see just one Ann."),
    ("ann", "And both of them have heard you."),
]


def main() -> None:
    """Make them all."""
    folder = Path(sys.argv[1])
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="dwebsocket-") as directory:
        os.environ["DATABASE_PATH"] = f"{directory}/db.sqlite3"
        run_python("-c", PREPARE + _USERS).check_returncode()
        with open_farm(Path(directory)) as farm, open_browser() as driver:
            page = Page(driver, farm.start("gunicorn", "example"))
            chat = open_chat(page, driver)
            driver.delete_all_cookies()
            others = {
                "index": open_window(page, "/"),
                "noise-monitor": open_window(page, "/noise-monitor/"),
                "routines": open_window(page, "/routines/"),
            }
            page.wait("#play:enabled").click()
            page.wait("#now", "Stretch")
            page.switch(others["noise-monitor"])
            page.wait_for_number("#noise-count", 150)
            for scheme in "light", "dark":
                panels = [shoot_panel(page, driver, scheme, name) for name in chat]
                save(join(panels), folder / f"chat-{scheme}.png")
                for name, handle in others.items():
                    page.switch(handle)
                    emulate(driver, scheme, _WIDTH, _HEIGHT)
                    save(shoot(driver), folder / f"{name}-{scheme}.png")


def open_window(page: Page, path: str) -> str:
    """Open a page in a window of its own; return its handle."""
    page.open_window()
    page.open(path).wait("main")
    return page.handle


def open_chat(page: Page, driver: webdriver.Chrome) -> list[str]:
    """Have two people talk; return the handles of their windows."""
    handles = {}
    for name in "ann", "bob":
        driver.delete_all_cookies()
        handles[name] = open_window(page, "/login/?next=/chat/")
        page.fill("main form", username=name, password="secret")
        page.wait("#people li", name)
    for name, text in _TALK:
        page.switch(handles[name])
        page.wait("#say:enabled")
        page.fill("#chat-form", text=text)
        page.wait("#lines li", text)
    return list(handles.values())


def shoot_panel(
    page: Page, driver: webdriver.Chrome, scheme: str, handle: str
) -> Image.Image:
    """Return a picture of the live panel alone."""
    page.switch(handle)
    emulate(driver, scheme, _PANEL_WIDTH, _PANEL_HEIGHT)
    page.wait("#lines li:last-child", _TALK[-1][1])
    picture = shoot(driver)
    rect = page.find("#live").rect
    left, top = int(rect["x"]), int(rect["y"])
    return picture.crop(
        (left, top, left + int(rect["width"]), top + int(rect["height"]))
    )


def shoot(driver: webdriver.Chrome) -> Image.Image:
    """Return a picture of what the window shows."""
    driver.execute_script("scrollTo(0, 0); document.activeElement.blur()")
    driver.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": True})
    return Image.open(io.BytesIO(driver.get_screenshot_as_png()))


def join(pictures: list[Image.Image]) -> Image.Image:
    """Return the pictures side by side."""
    width = sum(picture.width for picture in pictures) + _GAP * (len(pictures) - 1)
    joined = Image.new("RGB", (width, max(picture.height for picture in pictures)))
    joined.paste(pictures[0].getpixel((0, 0)), (0, 0, *joined.size))
    left = 0
    for picture in pictures:
        joined.paste(picture, (left, 0))
        left += picture.width + _GAP
    return joined


def save(picture: Image.Image, path: Path) -> None:
    """Write a picture, with as few colours as do."""
    few = picture.convert("RGB").quantize(_COLOURS, Image.Quantize.MEDIANCUT, dither=0)
    few.save(path, optimize=True)
    print(path, path.stat().st_size)


if __name__ == "__main__":
    main()
