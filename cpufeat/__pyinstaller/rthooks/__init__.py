"""What PyInstaller runs in a frozen application before the application's own code."""
