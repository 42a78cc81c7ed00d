"""Pages as a real browser has them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)


def in_the_browser(path: Path, script: str = "", hash_: str = "") -> str:
    """The page as a real browser has it after a script ran in it."""
    copy = path.with_name("driven.html")
    copy.write_text(path.read_text().replace("</body>", f"<script>{script}</script></body>"))
    switches = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1200,900"]
    done = subprocess.run(
        [
            BROWSER,
            *switches,
            f"--user-data-dir={path.parent}",
            "--dump-dom",
            f"file://{copy}{hash_}",
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout


def shown(dom: str, name: str) -> str:
    """The text of an element."""
    return re.search(rf'id="{name}"[^>]*>([^<]*)<', dom)[1]  # type: ignore[index]
