"""Image layers: inflating them, reading tar, and applying it to a directory that no entry can lead out of.

``inflate`` gives bytes and their digest, ``tar`` entries, ``apply`` files, and ``settle`` does what needs the layers below.
"""
