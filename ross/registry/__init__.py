"""The OCI distribution-spec as a client: where a registry is, who Ross is to it, what it sends and whether that can be believed.

Knows nothing of the store. Every byte that leaves this package is bounded in size and, where a digest is known, verified by the
caller or here. Credentials go to the registry they belong to, or to the token service which that registry names; never
anywhere else.
"""
