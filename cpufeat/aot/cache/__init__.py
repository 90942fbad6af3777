"""Keep artifacts in a cache on disk.

A compilation unit comes in, and the artifact that was made of it before goes out, if there is one. ``memo`` makes a key
of the unit and of ``fingerprint``'s digest of the compiler, and looks it up in ``store``, a content-addressed cache.
"""
