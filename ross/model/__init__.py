"""The records that services return, the wire carries and clients receive.

Frozen facts, never live state. Each record has a struct of the same shape in ``schema/ross.capnp`` (field names in camelCase);
``ross.wire.convert`` carries one into the other by this definition alone, and a test holds the two together.
Times are integer nanoseconds since the epoch, 0 where the thing has not happened; sizes are bytes; an absent limit is 0.

A module for each kind of thing, so that a command loads the records it uses and no others.
"""
