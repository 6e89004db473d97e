"""Flags of commands that make containers, by what they are about: attrs classes whose fields are flags."""
