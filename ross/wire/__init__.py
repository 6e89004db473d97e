"""Cap'n Proto RPC on Trio over Unix sockets, and what Ross's daemon and clients share on top of it.

``limits``, ``credentials``, ``transport``, ``loop`` and ``listener`` are general: they import nothing of Ross.
``schema``, ``convert``, ``errors`` and ``bytestream`` are Ross's own.
"""
