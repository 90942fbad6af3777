"""Add what PyInstaller does not find by itself."""

from PyInstaller.utils.hooks import collect_submodules

from cpufeat.tables import DATA

datas = [(DATA, "cpufeat/data")]
hiddenimports = collect_submodules("cpufeat", filter=lambda name: not name.startswith("cpufeat.__"))
