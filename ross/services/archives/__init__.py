"""Images out to archives and in from them: ``save``, ``load`` and ``import``.

An archive is hostile: its members are read into a spool under names of ours (:mod:`.members`), what it says of them is checked as a whole
before any of it is used (:mod:`.plans`), and only then content is taken in, layers are unpacked and names are set (:mod:`.service`).
"""
