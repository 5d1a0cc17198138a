"""The browser that the tests drive: Chromium without a window."""

from __future__ import annotations

from typing import Any

from selenium import webdriver

from .servers import find_program


def open_browser() -> webdriver.Chrome:
    """Start it; a context manager, which ends it."""
    options = webdriver.ChromeOptions()
    options.binary_location = find_program("chromium", "chromium")
    for option in (
        "--headless",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--disable-quic",
        "--disable-sync",
        "--no-first-run",
        "--no-sandbox",
    ):
        options.add_argument(option)
    service = webdriver.ChromeService(find_program("chromedriver", "chromium-driver"))
    return webdriver.Chrome(options, service)


def emulate(driver: webdriver.Chrome, scheme: str, width: int, height: int) -> None:
    """Have the window show ``scheme``, "light" or "dark", in a size in pixels."""
    media: dict[str, Any] = {
        "features": [
            {"name": "prefers-color-scheme", "value": scheme},
            # Else a colour may be looked at on its way to another one.
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]
    }
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
