"""DICOM in and out: bytes become records of `hospital.store.received`, results become objects of an archive.

In: `storage_scp` (with `acceptor` and `peers`) and `web.stow_in`, which fill a `reception`. Asked: `query_retrieve`,
`web.dicomweb_server`. Out: `archive_sender`. Start with `reception`.
"""
