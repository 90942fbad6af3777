"""Will it run: binaries and programs against a machine, an emulated CPU or this one."""
