"""Adapters between the wire and the services: look up, convert in, call the service, convert out. One interface a file."""
